package git

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestGitVersion(t *testing.T) {
	for in, want := range map[string]string{
		"git version 2.39.5\n": "2.39 true", "git version 2.50.1 (Apple Git-155)": "2.50 true", "git version 3.0-rc1": "0.0 false",
		"git version 2.38": "2.38 true", "busybox": "0.0 false",
	} {
		major, minor, ok := parseVersion(in)
		if got := fmt.Sprintf("%d.%d %v", major, minor, ok); got != want && (ok || strings.HasSuffix(want, "true")) {
			t.Errorf("parseVersion(%q) = %s, want %s", in, got, want)
		}
	}
}

// A command that does not end is ended with its children, and the error says why; one that fails says what it complained about.
func TestRunEnds(t *testing.T) {
	g := New("")
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the caller went away")
	cancel(gone)
	if _, err := g.Read(ctx, "", "version"); !errors.Is(err, gone) && !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	_, err := g.Run(t.Context(), Call{Args: []string{"-c", "alias.wait=!sleep 600", "wait"}, Within: 50 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "longer than 50ms") {
		t.Errorf("too slow: %v", err)
	}
	if _, err := g.Read(t.Context(), "", "no-such-command"); ExitCode(err) != 1 || !strings.Contains(err.Error(), "no-such-command") {
		t.Errorf("unknown: %v", err)
	}
}
