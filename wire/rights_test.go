package wire

import (
	"testing"

	"github.com/tiphys/tiphys/access/stepclaims"
	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/manifest"
)

// TestArtifactsOfOthers: a step reads neither what another run keeps, nor the folder that it is in, by its name or by
// that of the folder around it.
func TestArtifactsOfOthers(t *testing.T) {
	s := opened(t, Options{})
	objects, _ := manifest.Decode("w.yaml", []byte(`apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: other}
spec:
  entrypoint: main
  suspend: true
  templates: [{name: main, container: {image: i, command: [x]}}]
`))
	if _, err := s.machine.Runs.Submit(t.Context(), runs.Submission{Object: objects[0], Actor: "user:ada"}); err != nil {
		t.Fatal(err)
	}
	ctx := artifact.WithCaller(t.Context(), artifact.Caller{Namespace: "default", Owner: "me"})
	for key, allowed := range map[string]bool{
		"other": false, "other/": false, "other/other-main-1/x.tgz": false, "steps": false, "steps/": false, "steps/them": false,
		"steps/them/x": false, "steps/me": true, "steps/me/x": true, "shared": true, "shared/x": true, "stepsons/x": true,
	} {
		if _, err := (stepclaims.Artifacts{Claims: s.claims()}).Places(ctx, key, false); (err == nil) != allowed {
			t.Errorf("key %s: %v, allowed should be %v", key, err, allowed)
		}
	}
}
