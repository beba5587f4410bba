package api

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"strconv"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/manifest"
)

// getArtifact answers with the bytes of an output artifact of a step, as an attachment: what a step wrote is never shown as a page of ours.
func (a *API) getArtifact(w http.ResponseWriter, r *http.Request) {
	object, info, name, err := a.openArtifact(r)
	if err != nil {
		fail(w, err)
		return
	}
	defer object.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Security-Policy", "sandbox")
	w.Header().Set("Content-Length", strconv.FormatInt(info.Size, 10))
	w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	_, _ = io.Copy(w, object) // an answer that breaks off is shorter than it said
}

// openArtifact opens the object of an output. A node says where its output is, and a manifest what a node says: so the run's own rights hold.
func (a *API) openArtifact(r *http.Request) (io.ReadCloser, artifact.Info, string, error) {
	ns, name := r.PathValue("namespace"), r.PathValue("name")
	run, err := a.Runs.Summary(r.Context(), ns, name)
	if err != nil {
		return nil, artifact.Info{}, "", missingRun(err, ns, name)
	}
	node, err := a.node(r, run, r.PathValue("node"))
	if err != nil {
		return nil, artifact.Info{}, "", err
	}
	var found *manifest.Artifact
	if node.Outputs != nil {
		for i := range node.Outputs.Artifacts {
			if node.Outputs.Artifacts[i].Name == r.PathValue("artifact") {
				found = &node.Outputs.Artifacts[i]
			}
		}
	}
	switch {
	case found == nil:
		return nil, artifact.Info{}, "", failure.NotFoundf("step %s has no output artifact %s", node.ID, r.PathValue("artifact"))
	case found.S3 == nil || found.S3.Key == "" || found.S3.Endpoint != "" || found.S3.Bucket != "":
		return nil, artifact.Info{}, "", failure.NotFoundf("artifact %s of step %s is not in the default store: get it from where the manifest puts it", found.Name, node.ID)
	}
	ctx := artifact.WithCaller(r.Context(), artifact.Caller{Namespace: ns, Owner: run.UID, Node: node.ID})
	places, err := artifact.Places(ctx, a.Guard, found.S3.Key, false)
	if err != nil {
		return nil, artifact.Info{}, "", err
	}
	object, info, err := a.Artifacts.Get(ctx, places[0])
	for _, key := range places[1:] {
		if errors.Is(err, artifact.ErrNotFound) {
			object, info, err = a.Artifacts.Get(ctx, key)
		}
	}
	if errors.Is(err, artifact.ErrNotFound) {
		err = failure.NotFoundf("artifact %s of step %s is not there any more, or is a folder that was kept as it is", found.Name, node.ID)
	}
	if err != nil {
		return nil, artifact.Info{}, "", fmt.Errorf("open artifact: %w", err)
	}
	return object, info, path.Base(found.S3.Key), nil
}
