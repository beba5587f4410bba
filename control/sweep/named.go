package sweep

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// Runs gives runs with all that they name.
type Runs interface {
	// Status gives a run as Argo's Workflow object with its status.
	Status(ctx context.Context, namespace, name string) (json.RawMessage, error)
}

// Objects are the live objects of a target whose pods use this machine's images.
type Objects interface {
	// List gives those of an application; of all if it is empty.
	List(ctx context.Context, application string) ([]*unstructured.Unstructured, error)
}

// Named finds the images that somebody names.
type Named struct {
	Ledger  ledger.Ledger
	Objects Objects
	Runs    Runs
}

// Images gives the references of images that applications and what they ever deployed name, objects on the target,
// and runs that go on.
func (n Named) Images(ctx context.Context) ([]string, error) {
	refs := map[string]bool{}
	for _, table := range []string{deploy.TableApplication, deploy.TableDeployment, deploy.TableRelease} {
		if err := n.ofTable(ctx, table, refs); err != nil {
			return nil, err
		}
	}
	objects, err := n.Objects.List(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		imagesIn(o.Object, refs)
	}
	live := ledger.Query{Table: "run", States: []string{string(workflow.Pending), string(workflow.Running)}}
	for row, err := range ledger.Each(ctx, n.Ledger, live) {
		if err != nil {
			return nil, err
		}
		if err := n.ofRun(ctx, row.Key, refs); err != nil {
			return nil, err
		}
	}
	list := make([]string, 0, len(refs))
	for ref := range refs {
		list = append(list, ref)
	}
	return list, nil
}

// ofTable collects the images of a table's rows.
func (n Named) ofTable(ctx context.Context, table string, refs map[string]bool) error {
	for row, err := range ledger.Each(ctx, n.Ledger, ledger.Query{Table: table}) {
		if err != nil {
			return err
		}
		var body struct {
			Images map[string]string `json:"images"`
		}
		if err := json.Unmarshal(row.Body, &body); err != nil {
			return fmt.Errorf("read %s %s: %w", table, row.Key, err)
		}
		for _, ref := range body.Images {
			refs[ref] = true
		}
	}
	return nil
}

// ofRun collects the images of one run.
func (n Named) ofRun(ctx context.Context, key string, refs map[string]bool) error {
	namespace, name, _ := strings.Cut(key, "/")
	raw, err := n.Runs.Status(ctx, namespace, name)
	var run any
	if err == nil {
		err = json.Unmarshal(raw, &run)
	}
	if err != nil {
		return fmt.Errorf("read run %s: %w", key, err)
	}
	imagesIn(run, refs)
	return nil
}

// imagesIn collects what stands under "image" anywhere in an object.
func imagesIn(v any, refs map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, item := range v {
			if ref, ok := item.(string); ok && k == "image" && ref != "" {
				refs[ref] = true
				continue
			}
			imagesIn(item, refs)
		}
	case []any:
		for _, item := range v {
			imagesIn(item, refs)
		}
	}
}
