package definitions

import (
	"bytes"
	"encoding/json"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/tiphys/tiphys/executor/netpolicy"
	"github.com/tiphys/tiphys/manifest"
)

// isNetworkPolicy says whether an object is one of those that applications bring and no definition.
func isNetworkPolicy(o manifest.Object) bool {
	return o.Kind == "NetworkPolicy" && strings.HasPrefix(o.APIVersion, networkingv1.GroupName+"/")
}

// lintNetworkPolicy finds what no target could hold pods to.
func lintNetworkPolicy(o manifest.Object) []manifest.Diagnostic {
	diags := manifest.CheckName(o)
	var p networkingv1.NetworkPolicy
	d := json.NewDecoder(bytes.NewReader(o.Tree.JSON()))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return append(diags, manifest.Diagnostic{Position: o.Position, Severity: manifest.SeverityError, Message: "NetworkPolicy " + o.Name + ": " + strings.TrimPrefix(err.Error(), "json: ")})
	}
	for _, found := range netpolicy.Check(&p.Spec) {
		severity := manifest.SeverityWarning
		if found.Fatal {
			severity = manifest.SeverityError
		}
		diags = append(diags, manifest.Diagnostic{Position: o.Tree.Position(found.Path), Severity: severity, Path: found.Path, Message: found.Path + ": " + found.Message})
	}
	return diags
}
