package local

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
)

// fixedError says that an object cannot be changed in place.
type fixedError struct{ kind string }

func (e *fixedError) Error() string {
	return fmt.Sprintf("a %s cannot be changed: delete it first, have it recreated by the sync option Force=true, or use %s", e.kind, map[string]string{
		"Pod": "a Deployment", "Job": "a hook",
	}[e.kind])
}

// neverChanges says that objects of a kind cannot be changed in place.
func neverChanges(k deploy.Key) bool { return k.Kind == "Pod" || k.Kind == "Job" && k.Group == "batch" }

// makeAnew has an object go, so that it can be made anew when it is gone: until then the answer is [deploy.ErrLeaving]. A dry run gives what would
// be made. t.mu is held.
func (t *Target) makeAnew(ctx context.Context, old *object, wish *unstructured.Unstructured, opt deploy.ApplyOptions) (*unstructured.Unstructured, error) {
	if opt.DryRun {
		next, err := t.next(nil, wish, opt)
		if err != nil {
			return nil, fmt.Errorf("apply %s: %w", old.Key, err)
		}
		return next.view(), nil
	}
	t.o.Fault("delete")
	if err := t.markDeleted(ctx, old, opt.Cause); err != nil {
		return nil, fmt.Errorf("recreate %s: %w", old.Key, err)
	}
	t.poke()
	return nil, fmt.Errorf("recreate %s: %w", old.Key, deploy.ErrLeaving)
}
