package targettest

import (
	"errors"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
)

func ingress(name string, hosts ...string) *unstructured.Unstructured {
	var rules []any
	for _, host := range hosts {
		rules = append(rules, map[string]any{"host": host, "http": map[string]any{"paths": []any{map[string]any{"path": "/", "pathType": "Prefix",
			"backend": map[string]any{"service": map[string]any{"name": "web", "port": map[string]any{"number": int64(80)}}}}}}})
	}
	return object("networking.k8s.io/v1", "Ingress", name, map[string]any{"spec": map[string]any{"rules": rules}})
}

// hosts: a host name is the Application's that had it first, or to which its project gives it. A target that has no Ingress has nothing to say.
func hosts(t *testing.T, s *Subject) {
	can, err := s.Target.Capabilities(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, there := can.Kind("networking.k8s.io", "Ingress"); !there {
		t.Skip("SKIPPED: the target has no Ingresses")
	}
	s.apply(t, ingress("first", "shop.example.org", "spare.example.org"), owned(application))
	refused := func(what string, o *unstructured.Unstructured, opt deploy.ApplyOptions, host, owner string) {
		t.Helper()
		var has *deploy.HostError
		if _, err := s.Target.Apply(t.Context(), o, opt); !errors.As(err, &has) || has.Host != host || has.Owner != owner {
			t.Errorf("%s: %v", what, err)
		}
		problems, err := s.Target.Check(t.Context(), []*unstructured.Unstructured{o}, opt)
		if err != nil || len(problems) == 0 || !problems[0].Fatal {
			t.Errorf("%s, checked: %+v %v", what, problems, err)
		}
	}
	refused("a second claim", ingress("second", "shop.example.org"), owned(another), "shop.example.org", application)
	refused("a claim of the other", ingress("second", "spare.example.org"), owned(another), "spare.example.org", application)
	refused("one of several", ingress("second", "free.example.org", "shop.example.org"), owned(another), "shop.example.org", application)
	refused("by force", ingress("second", "shop.example.org"), deploy.ApplyOptions{Application: another, Force: true, Replace: true}, "shop.example.org", application)
	refused("given another name", ingress("second", "shop.example.org"), deploy.ApplyOptions{Application: another, Hosts: []string{"free.example.org"}}, "shop.example.org", application)
	s.apply(t, ingress("third", "free.example.org"), owned(another))
	s.apply(t, ingress("more", "shop.example.org"), owned(application)) // of its own it may have several
	given := deploy.ApplyOptions{Application: another, Hosts: []string{"shop.example.org"}}
	s.apply(t, ingress("second", "shop.example.org"), given)
	refused("after it was given away", ingress("late", "shop.example.org"), owned("default/late"), "shop.example.org", another)
	s.Target, s.Pods = s.Reopen(t)
	refused("after a restart", ingress("late", "shop.example.org"), owned("default/late"), "shop.example.org", another)
	if err := s.Target.Delete(t.Context(), deploy.KeyOf(ingress("third")), owned(another)); err != nil {
		t.Fatal(err)
	}
	s.await(t, "its owner's is gone", s.gone(t, deploy.KeyOf(ingress("third"))))
	s.apply(t, ingress("late", "free.example.org"), owned("default/late"))
}
