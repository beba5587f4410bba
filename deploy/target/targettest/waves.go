package targettest

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/health"
	"github.com/tiphys/tiphys/deploy/plan"
)

// inWave puts an object into a wave of a sync (Argo CD's documents, "Sync phases and waves").
func inWave(o *unstructured.Unstructured, wave string) *unstructured.Unstructured {
	o.SetAnnotations(map[string]string{"argocd.argoproj.io/sync-wave": wave})
	return o
}

// sync carries a sync out as the planner decides it, and calls look after each look at what is live.
func (s *Subject) sync(t *testing.T, desired []*unstructured.Unstructured, look func(live map[deploy.Key]*unstructured.Unstructured)) {
	t.Helper()
	op := plan.Begin("revision", time.Now())
	s.await(t, "the sync ends", func() bool {
		for {
			list := s.all(t, application)
			live := map[deploy.Key]*unstructured.Unstructured{}
			for _, o := range list {
				live[deploy.KeyOf(o)] = o
			}
			look(live)
			step := plan.Next(plan.Input{Desired: desired, Live: list, Options: plan.Options{Prune: true, AllowEmpty: true}, Operation: op, Now: time.Now()})
			op = step.Operation
			for _, a := range step.Actions {
				var err error
				if a.Delete {
					err = s.Target.Delete(t.Context(), a.Key, owned(application))
				} else {
					_, err = s.Target.Apply(t.Context(), a.Object, owned(application))
				}
				op.Record(a, err, time.Now())
			}
			if len(step.Actions) == 0 {
				if op.Done() && op.Phase != plan.Succeeded {
					t.Fatalf("%s: %s", op.Phase, op.Message)
				}
				return op.Done()
			}
		}
	})
}

// waves: with the target's status, a later wave begins when the one before is healthy, and pruning goes backwards.
func waves(t *testing.T, s *Subject) {
	early, late := deploy.KeyOf(s.deployment("early")), deploy.KeyOf(configMap("late", ""))
	desired := []*unstructured.Unstructured{inWave(configMap("late", "1"), "2"), inWave(s.deployment("early"), "1")}
	began := false
	s.sync(t, desired, func(live map[deploy.Key]*unstructured.Unstructured) {
		began = began || live[early] != nil
		if live[late] == nil {
			return
		}
		if h, _ := health.Of(live[early]); !began || live[early] == nil || h.Status != health.Healthy {
			t.Fatalf("the second wave began while the first is %+v", h)
		}
	})
	if s.live(t, late) == nil {
		t.Error("the second wave was left out")
	}
	s.sync(t, nil, func(live map[deploy.Key]*unstructured.Unstructured) {
		if live[late] != nil && (live[early] == nil || live[early].GetDeletionTimestamp() != nil) {
			t.Fatal("the first wave goes before the second is gone")
		}
	})
	if left := s.all(t, application); len(left) > 0 {
		t.Errorf("the sync succeeded and left %v", kindsOf(left))
	}
}
