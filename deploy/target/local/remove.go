package local

import (
	"context"
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tiphys/tiphys/deploy"
)

// Delete implements deploy.Target. What the object owns goes with it, pods after they were drained.
func (t *Target) Delete(ctx context.Context, k deploy.Key, opt deploy.ApplyOptions) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("delete %s: %w", k, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.whole(k); err != nil {
		return fmt.Errorf("delete %s: %w", k, err)
	}
	o := t.objects.byKey[k]
	if o == nil || o.deleting() {
		return nil
	}
	if err := o.refuses(opt); err != nil && opt.Application != "" {
		return fmt.Errorf("delete: %w", err)
	}
	if err := t.shared(o); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	if opt.DryRun {
		return nil
	}
	t.o.Fault("delete")
	if err := t.markDeleted(ctx, o, opt.Cause); err != nil {
		return fmt.Errorf("delete %s: %w", k, err)
	}
	t.poke()
	return nil
}

// shared is the [deploy.SharedError] of a Namespace in which other Applications than its own have objects.
func (t *Target) shared(o *object) error {
	if o.Key.Kind != "Namespace" || o.Key.Group != "" {
		return nil
	}
	others := map[string]bool{}
	for other := range t.objects.byNamespace[o.Key.Name] {
		if other.Application != o.Application && !other.deleting() {
			others[other.Application] = true
		}
	}
	if len(others) == 0 {
		return nil
	}
	return &deploy.SharedError{Namespace: o.Key.Name, Applications: slices.Sorted(maps.Keys(others))}
}

// markDeleted begins the deletion; t.mu is held.
func (t *Target) markDeleted(ctx context.Context, o *object, cause int64) error {
	now := metav1.NewTime(t.o.Now().UTC())
	o.live.SetDeletionTimestamp(&now)
	o.State = "Deleting"
	return t.write(ctx, change{kind: deploy.KindObjectDeleting, o: o, cause: cause})
}

// Release implements deploy.Target.
func (t *Target) Release(ctx context.Context, k deploy.Key, opt deploy.ApplyOptions) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("release %s: %w", k, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.whole(k); err != nil {
		return fmt.Errorf("release %s: %w", k, err)
	}
	o := t.objects.byKey[k]
	if o == nil || o.Application == "" {
		return nil
	}
	if err := o.refuses(opt); err != nil {
		return fmt.Errorf("release: %w", err)
	}
	if opt.DryRun {
		return nil
	}
	free := *o
	free.Application = ""
	changes := append([]change{{kind: deploy.KindObjectChanged, o: o, cause: opt.Cause}}, t.takeOver(o, &free, opt.Cause)...)
	for _, c := range changes {
		c.o.Application = ""
		notes := c.o.live.GetAnnotations()
		if delete(notes, trackingID); len(notes) == 0 {
			notes = nil
		}
		c.o.live.SetAnnotations(notes)
	}
	if err := t.write(ctx, changes...); err != nil {
		return fmt.Errorf("release %s: %w", k, err)
	}
	t.wall()
	return nil
}
