package local

import "github.com/tiphys/tiphys/deploy"

// runs says that this machine heeds objects of a kind. What it does not run it keeps, if its Application says so, without effect: nothing but the
// record is made of it.
func runs(k deploy.Key) bool {
	if k.Group == policyKind.Group && k.Kind == policyKind.Kind || k.Group == "apps" && k.Kind == "ControllerRevision" {
		return true
	}
	for _, known := range kinds {
		if known.Group == k.Group && known.Kind == k.Kind {
			return true
		}
	}
	return false
}
