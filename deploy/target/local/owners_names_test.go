package local

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
)

// A page at the server's own name or below it would be of the same site as the screens. An Ingress there is refused, whoever declares it.
func TestNoApplicationBelowTheScreens(t *testing.T) {
	target := &Target{o: Options{OwnNames: []string{"CI.example.org", ""}}}
	for host, refused := range map[string]bool{
		"ci.example.org": true, "Mr-1.CI.example.org": true, "*.ci.example.org": true, "a.b.ci.example.org": true,
		"example.org": false, "apps.example.org": false, "xci.example.org": false, "prod.harbour.localhost": false,
	} {
		o := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": map[string]any{"name": "x", "namespace": "shop"},
			"spec": map[string]any{"rules": []any{map[string]any{"host": host}}},
		}}
		if own := target.ownName(deploy.HostsOf(o)[0]); (own != "") != refused {
			t.Errorf("%s: %q", host, own)
		}
	}
}
