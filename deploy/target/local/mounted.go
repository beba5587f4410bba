package local

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/deploy"
)

// mounted is what a pod's present attempt sees of the ConfigMaps and Secrets in its volumes.
type mounted struct {
	// shown is what it was last told, in the words of Target.mounts; empty if nobody knows, as after a restart of the server.
	shown string
	// asked says that it is being told now, failures how often in a row that failed, and next when to try again.
	asked    bool
	failures int
	next     time.Time
}

const (
	// refreshes bounds how many pods are told at once.
	refreshes = 8
	// refreshWait bounds one try; the waits between tries double to the minute within which Kubernetes has pods follow.
	refreshWait  = 30 * time.Second
	firstRefresh = 250 * time.Millisecond
	mostRefresh  = time.Minute
)

// mounts says which ConfigMaps and Secrets a pod has in its volumes and as of which entry each of them is; empty for a pod without. t.mu is held.
func (t *Target) mounts(p *pod) string {
	var b strings.Builder
	for _, key := range mountedBy(p.spec()) {
		last := int64(0)
		if o := t.objects.byKey[key]; o != nil && !o.deleting() {
			last = o.last
		}
		fmt.Fprintf(&b, "%s@%d ", key, last)
	}
	return b.String()
}

// mountedBy are the ConfigMaps and Secrets in a pod's volumes.
func mountedBy(p *corev1.Pod) []deploy.Key {
	var keys []deploy.Key
	add := func(kind, name string) {
		keys = append(keys, deploy.Key{Kind: kind, Namespace: p.Namespace, Name: name})
	}
	for _, v := range p.Spec.Volumes {
		switch {
		case v.ConfigMap != nil:
			add("ConfigMap", v.ConfigMap.Name)
		case v.Secret != nil:
			add("Secret", v.Secret.SecretName)
		case v.Projected != nil:
			for _, s := range v.Projected.Sources {
				if s.ConfigMap != nil {
					add("ConfigMap", s.ConfigMap.Name)
				}
				if s.Secret != nil {
					add("Secret", s.Secret.Name)
				}
			}
		}
	}
	return keys
}

// refresh has a running pod see its ConfigMaps and Secrets as they are now, if it does not. t.mu is held.
func (t *Target) refresh(p *pod) {
	if t.o.Volumes == nil || !p.running || p.deleting() || p.mounted.asked {
		return
	}
	now := t.mounts(p)
	if now == p.mounted.shown {
		return
	}
	if wait := p.mounted.next; t.o.Now().Before(wait) {
		t.at(wait)
		return
	}
	if t.refreshing >= refreshes {
		return // whoever ends has this looked at again
	}
	order, err := t.order(p)
	if err != nil {
		t.refreshed(p, now, err)
		return
	}
	t.refreshing++
	p.mounted.asked = true
	t.spawn(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, refreshWait)
		defer cancel()
		err := t.o.Volumes.Refresh(ctx, order)
		t.mu.Lock()
		defer t.mu.Unlock()
		t.refreshing--
		t.poke()
		if order.ID.Attempt == p.Attempt && t.ctx.Err() == nil {
			p.mounted.asked = false
			t.refreshed(p, now, err)
		}
	})
}

// refreshed notes that a pod was told of its ConfigMaps and Secrets as they were then, or what kept it from being told. t.mu is held.
func (t *Target) refreshed(p *pod, then string, err error) {
	what := "refresh the volumes of " + p.Key.String()
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		t.o.Log.Warn("a pod does not see what has changed in the ConfigMaps and Secrets that it mounts", "pod", p.Key.String(), "error", err)
	case err != nil && p.running && !p.deleting():
		wait := min(firstRefresh<<min(p.mounted.failures, 10), mostRefresh)
		p.mounted.failures++
		p.mounted.next = t.o.Now().Add(wait)
		t.again(what, err, wait)
		return
	}
	p.mounted = mounted{shown: then}
	t.troubles.Over(what)
}
