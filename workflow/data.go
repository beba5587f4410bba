package workflow

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow/expression"
)

// listArtifacts asks for the list that a data template begins with. Its node is one of a pod, as in Argo, though no pod is
// started here.
func (t *turn) listArtifacts(n *node, d *manifest.DataTemplate, pod *podStart) {
	folder, err := dataFolder(d)
	if err != nil {
		t.finish(n, Error, err.Error(), nil)
		return
	}
	key := "list/" + n.ID + "/" + strconv.Itoa(pod.Attempt)
	t.effect(Need{Key: key, List: &List{Node: n.ID, Folder: folder}})
	t.watchDeadline(n, pod)
}

// dataFolder is the key below which a data template lists.
func dataFolder(d *manifest.DataTemplate) (string, error) {
	a := d.Source.ArtifactPaths
	if a == nil {
		return "", fmt.Errorf("no valid source is used for data template")
	}
	if a.S3 == nil || a.S3.Endpoint != "" || a.S3.Bucket != "" || strings.Trim(a.S3.Key, "/") == "" {
		return "", fmt.Errorf("%s", listableOnly)
	}
	return strings.Trim(a.S3.Key, "/"), nil
}

const listableOnly = "data.source.artifactPaths: only a folder of the built-in store can be listed: give it s3 with a key and nothing else"

// gotList takes the list, transforms it, and ends the node with what came of it as its result (workflow/data of Argo
// Workflows). What is wrong with the source is an error of the node, and with a transformation too.
func (t *turn) gotList(n *node, g Got) error {
	if !n.asks() || !strings.HasSuffix(g.Key, "/"+strconv.Itoa(n.pod.Attempt)) {
		return nil
	}
	if g.Error != "" {
		t.finish(n, Error, "unable to process data source: unable to source artifact paths: "+g.Error, nil)
		return nil
	}
	var typed manifest.Template
	if err := json.Unmarshal(n.pod.Template, &typed); err != nil || typed.Data == nil {
		return fmt.Errorf("read recorded template of node %s: it is not a data template: %w", n.ID, err)
	}
	t.finishData(n, typed.Data, g.Keys)
	return nil
}

func (t *turn) finishData(n *node, d *manifest.DataTemplate, keys []string) {
	result, err := t.transform(d.Transformation, keys)
	if err != nil {
		t.finish(n, Error, "unable to process data transformation: "+err.Error(), nil)
		return
	}
	t.finish(n, Succeeded, "", &manifest.Outputs{Result: &result})
}

func (t *turn) transform(steps []manifest.Transformation, keys []string) (string, error) {
	list := make([]any, len(keys))
	for i, k := range keys {
		list[i] = k
	}
	var data any = list
	for i, step := range steps {
		if step.Expression == "" {
			continue
		}
		t.chance++
		o := expression.Options{Now: t.now, Seed: t.chance}
		var err error
		if data, err = t.s.cache.evaluator.Eval(step.Expression, expression.Values{"data": data}, o); err != nil {
			return "", fmt.Errorf("error processing data step %d: %w", i, err)
		}
	}
	raw, err := json.Marshal(data)
	if err != nil {
		return "", fmt.Errorf("write the result: %w", err)
	}
	return string(raw), nil
}

// unlistable finds data templates whose source cannot be listed, wherever templates stand. A key may hold tags.
func unlistable(path string, v any) []manifest.Diagnostic {
	var found []manifest.Diagnostic
	switch v := v.(type) {
	case map[string]any:
		for _, k := range sortedKeys(v) {
			at := manifest.JoinPath(path, k)
			if source, ok := asMap(v[k])["source"]; ok && k == "data" {
				paths := asMap(source)["artifactPaths"]
				if strings.Trim(text(asMap(asMap(paths)["s3"])["key"]), "/") == "" {
					found = append(found, manifest.Diagnostic{Severity: manifest.SeverityError, Path: at + ".source", Message: listableOnly})
				}
				continue
			}
			found = append(found, unlistable(at, v[k])...)
		}
	case []any:
		for i, x := range v {
			found = append(found, unlistable(manifest.IndexPath(path, i), x)...)
		}
	}
	return found
}
