package events

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/budget"
	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
)

// place is where a trigger's object was fetched from: empty if it is of this server, and without a revision if it is of no repository.
type place struct{ url, revision string }

func placeOf(src *manifest.TriggerSource) place {
	switch {
	case src.Git != nil:
		return place{src.Git.URL, revision(src.Git)}
	case src.URL != nil:
		return place{url: src.URL.Path}
	}
	return place{}
}

// origin is who declared what a run is made of: the sensor, or the ConfigMap that its object is in, if that is another's.
// One that is declared no more is as if a stranger had declared it.
func (c *Controller) origin(ctx context.Context, f sensor.Firing, src *manifest.TriggerSource) (string, error) {
	namespace := namespaceOf(f)
	parts := [][2]string{{"Sensor", strings.TrimPrefix(f.Sensor, namespace+"/")}}
	if f.Resource == nil && src.ConfigMap != nil {
		parts = append(parts, [2]string{"ConfigMap", src.ConfigMap.Name})
	}
	origin := ""
	for _, p := range parts {
		d, err := c.o.Definitions.Get(ctx, p[0], namespace, p[1])
		switch {
		case errors.Is(err, ledger.ErrNotFound):
			return "a " + p[0] + " that is gone", nil
		case err != nil:
			return "", err
		case origin == "" || origin == definitions.OriginFolder || d.Origin != definitions.OriginFolder && d.Origin != definitions.OriginAPI:
			origin = d.Origin
		}
	}
	return origin, nil
}

// fetch reads the trigger's object from where its source says, and puts the parameters in.
func (c *Controller) fetch(ctx context.Context, f sensor.Firing, src *manifest.TriggerSource) ([]byte, []manifest.Given, error) {
	if src == nil {
		return nil, nil, fmt.Errorf("the trigger has no source: %w", errFinal)
	}
	var raw []byte
	var err error
	switch {
	case src.Git != nil:
		raw, err = c.fromGit(ctx, f, src.Git)
	case src.ConfigMap != nil:
		raw, err = c.configMap(ctx, namespaceOf(f), src.ConfigMap.Name, src.ConfigMap.Key)
	case src.URL != nil:
		raw, err = c.get(egress.For(ctx, "source.url.path"), src.URL.Path)
	default:
		return nil, nil, fmt.Errorf("this source of a trigger's object is understood but not run by this version (use resource, inline, git, configmap or url): %w", errFinal)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the trigger's object: %w", err)
	}
	objects, diags := manifest.Decode("trigger "+f.Trigger, raw)
	if err := manifest.FirstError(diags); err != nil || len(objects) != 1 {
		return nil, nil, fmt.Errorf("the trigger's object: %w: %w", errOr(err, "it is not one object"), errFinal)
	}
	return sensor.Apply(budget.New(), objects[0].Tree.JSON(), f.Parameters)
}

// revision is where a Git source points: a commit or ref, a tag, a branch, or the default branch.
func revision(g *manifest.TriggerGit) string {
	switch {
	case g.Ref != "":
		return g.Ref
	case g.Tag != "":
		return "refs/tags/" + g.Tag
	case g.Branch != "":
		return "refs/heads/" + g.Branch
	}
	return "HEAD"
}

func (c *Controller) configMap(ctx context.Context, namespace, name, key string) ([]byte, error) {
	cm, err := definitions.Find[corev1.ConfigMap](ctx, c.o.Definitions, namespace, name)
	switch {
	case err != nil:
		return nil, err
	case cm.State == definitions.Absent:
		return nil, fmt.Errorf("read ConfigMap %s/%s: %w", namespace, name, ledger.ErrNotFound)
	case cm.State == definitions.Unreadable:
		return nil, cm.Problem
	}
	text, ok := cm.Value.Data[key]
	if !ok {
		return nil, fmt.Errorf("ConfigMap %s has no key %q", name, key)
	}
	return []byte(text), nil
}

// maxFetched bounds what is read over HTTP, in bytes.
const maxFetched = 4 << 20

func (c *Controller) get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: c.o.Egress.Shared()}
	resp, err := client.Do(req)
	if err != nil {
		return nil, finally(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", req.URL.Redacted(), resp.Status)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxFetched+1))
	if err == nil && len(raw) > maxFetched {
		return nil, fmt.Errorf("%s has more than %d bytes: %w", req.URL.Redacted(), maxFetched, errFinal)
	}
	return raw, err
}
