package local_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/local"
	"github.com/tiphys/tiphys/manifest"
)

// A step left a file with a hole of which the saving would take minutes; it was stopped meanwhile, and ends then.
func TestSavingArtifactsObeysStop(t *testing.T) {
	needRoot(t)
	var begun sync.Once
	ended := make(chan struct{})
	e := open(t, t.TempDir(), withImages, withStore(t), func(o *local.Options) {
		o.Grace = time.Millisecond
		o.Fault = func(point string) {
			if point == "exit-record" {
				begun.Do(func() { close(ended) })
			}
		}
	})
	defer func() { _ = e.Close() }()
	p := shell(t, "truncate -s 31G /hole")
	p.Outputs.Artifacts = []manifest.Artifact{key("hole", "/hole", "run/hole.tgz")}
	if err := e.Start(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	<-ended
	if err := e.Stop(context.Background(), p.ID, 0); err != nil {
		t.Fatal(err)
	}
	r := report(t, e, func(r executor.Report) bool { return r.ID == p.ID && r.Phase.Done() })
	if r.Phase != executor.Failed || r.Reason != executor.ReasonStopped || len(r.Saved) != 0 {
		t.Errorf("%s %s %q, saved %v", r.Phase, r.Reason, r.Message, r.Saved)
	}
}
