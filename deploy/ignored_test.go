package deploy_test

import (
	"strings"
	"testing"

	"github.com/tiphys/tiphys/deploy"
)

func TestIgnoredKinds(t *testing.T) {
	list, err := deploy.ReadIgnored(" Role.rbac.authorization.k8s.io, PersistentVolume,\n*.cert-manager.io,, *.networking.k8s.io ")
	if err != nil {
		t.Fatal(err)
	}
	for entry, want := range map[string]bool{
		"rbac.authorization.k8s.io/Role": true, "rbac.authorization.k8s.io/RoleBinding": false, "/PersistentVolume": true, "/Role": false, "storage.k8s.io/PersistentVolume": false,
		"cert-manager.io/Certificate": true, "acme.cert-manager.io/Order": false, "/Certificate": false,
		// A network policy never is, by whatever pattern.
		"networking.k8s.io/IngressClass": true, "networking.k8s.io/NetworkPolicy": false, "networking.k8s.io/AdminNetworkPolicy": false,
	} {
		group, kind, _ := strings.Cut(entry, "/")
		if got := list.Has(group, kind); got != want {
			t.Errorf("%s: %t", entry, got)
		}
	}
	for _, bad := range []string{"*", "*.*", "Role.*", "Ro*le.example.org", "NetworkPolicy.networking.k8s.io", "CiliumNetworkPolicy.cilium.io", "Role.-x", "a b", ".example.org", "Role.", "Role/x",
		strings.Repeat("Role.example.org,", 201), strings.Repeat("R", 64)} {
		if got, err := deploy.ReadIgnored(bad); err == nil {
			t.Errorf("%.40q is taken as %v", bad, got)
		}
	}
	if list, err := deploy.ReadIgnored(""); err != nil || len(list) != 0 || list.Has("", "Pod") {
		t.Error(list, err)
	}
}
