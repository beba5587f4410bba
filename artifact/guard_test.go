package artifact_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/artifact"
	artifactlocal "github.com/tiphys/tiphys/artifact/local"
)

// TestFolders: a folder is listed by its name and not by what begins like it; what belongs to another run is refused
// with all that is beside it.
func TestFolders(t *testing.T) {
	store, err := artifactlocal.Open(t.TempDir(), artifactlocal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	for _, key := range []string{"logs/b/c", "logs/a", "logsother/d", "mixed/mine/a", "mixed/theirs/b"} {
		if _, err := store.Put(t.Context(), key, strings.NewReader(key)); err != nil {
			t.Fatal(err)
		}
	}
	list := artifact.Folders{Store: store, Guard: notTheirs{}}.Keys
	me := artifact.Caller{Owner: "me"}
	got, err := list(t.Context(), me, "logs")
	if diff := cmp.Diff([]string{"logs/a", "logs/b/c"}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if got, err := list(t.Context(), me, "mixed"); err == nil || len(got) > 0 {
		t.Errorf("got %v, %v of another run's", got, err)
	}
	if got, err := list(t.Context(), me, "none"); err != nil || len(got) > 0 {
		t.Errorf("an empty folder gives %v, %v", got, err)
	}
}

// notTheirs keeps me from reading theirs.
type notTheirs struct{}

func (notTheirs) Places(ctx context.Context, key string, write bool) ([]string, error) {
	if strings.Contains(key, "theirs") && artifact.CallerFrom(ctx).Owner == "me" && !write {
		return nil, errors.New("belongs to another run")
	}
	return []string{key}, nil
}
