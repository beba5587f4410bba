package datafolder_test

import (
	"context"
	"errors"
	"testing"

	"github.com/tiphys/tiphys/datafolder"
)

// Any number may copy contents at a time, nobody removes any meanwhile, and nobody copies while somebody removes.
func TestContentsAreKeptOrRemoved(t *testing.T) {
	folder := t.TempDir()
	unlock := func(c *datafolder.Contents) {
		t.Helper()
		if err := c.Unlock(); err != nil {
			t.Error(err)
		}
	}
	one, err := datafolder.Keep(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	two, err := datafolder.Keep(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*datafolder.Contents{one, two} {
		if _, err := datafolder.Remove(folder); !errors.Is(err, datafolder.ErrCopied) {
			t.Errorf("removed while it is copied: %v", err)
		}
		unlock(c)
	}
	removing, err := datafolder.Remove(folder)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := datafolder.Keep(ctx, folder); !errors.Is(err, context.Canceled) {
		t.Errorf("copied while it is removed: %v", err)
	}
	unlock(removing)
	again, err := datafolder.Keep(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	unlock(again)
}
