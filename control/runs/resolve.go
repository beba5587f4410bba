package runs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"path"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/secret"
	"github.com/tiphys/tiphys/workflow"
)

// resolve gives a pod the data of the ConfigMaps and Secrets that it names, and the values that must not appear in its logs.
func (c *Controller) resolve(ctx context.Context, pod *executor.Pod) error {
	if pod.Resolve == nil {
		pod.Resolve = map[string]map[string]secret.Value{}
	}
	ns := first(pod.Pod.Namespace, "default")
	for ref, optional := range references(pod.Pod.Spec) {
		id := ref.Kind + "/" + ns + "/" + ref.Name
		if _, ok := pod.Resolve[id]; ok {
			continue
		}
		data, err := c.o.Secrets.data(ctx, workflow.Ref{Kind: ref.Kind, Namespace: ns, Name: ref.Name})
		if errors.Is(err, ErrNoObject) && optional {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s %s/%s: %w", ref.Kind, ns, ref.Name, err)
		}
		pod.Resolve[id] = data
		if ref.Kind == "Secret" {
			for _, v := range data {
				pod.Mask = append(pod.Mask, v)
			}
		}
	}
	if !pod.Token.IsZero() {
		pod.Mask = append(pod.Mask, pod.Token)
	}
	return nil
}

// references lists the ConfigMaps and Secrets of a pod, and whether each may be missing.
func references(spec corev1.PodSpec) map[workflow.Ref]bool {
	refs := map[workflow.Ref]bool{}
	add := func(kind, name string, optional *bool) {
		if name == "" {
			return
		}
		ref := workflow.Ref{Kind: kind, Name: name}
		old, seen := refs[ref]
		may := optional != nil && *optional
		refs[ref] = may && (!seen || old)
	}
	for _, v := range spec.Volumes {
		volumeReferences(v, add)
	}
	for _, c := range append(append([]corev1.Container{}, spec.InitContainers...), spec.Containers...) {
		for _, e := range c.EnvFrom {
			if e.ConfigMapRef != nil {
				add("ConfigMap", e.ConfigMapRef.Name, e.ConfigMapRef.Optional)
			}
			if e.SecretRef != nil {
				add("Secret", e.SecretRef.Name, e.SecretRef.Optional)
			}
		}
		for _, e := range c.Env {
			if e.ValueFrom == nil {
				continue
			}
			if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
				add("ConfigMap", r.Name, r.Optional)
			}
			if r := e.ValueFrom.SecretKeyRef; r != nil {
				add("Secret", r.Name, r.Optional)
			}
		}
	}
	for _, s := range spec.ImagePullSecrets {
		add("Secret", s.Name, nil)
	}
	return refs
}

func volumeReferences(v corev1.Volume, add func(kind, name string, optional *bool)) {
	if v.ConfigMap != nil {
		add("ConfigMap", v.ConfigMap.Name, v.ConfigMap.Optional)
	}
	if v.Secret != nil {
		add("Secret", v.Secret.SecretName, v.Secret.Optional)
	}
	if v.Projected == nil {
		return
	}
	for _, s := range v.Projected.Sources {
		if s.ConfigMap != nil {
			add("ConfigMap", s.ConfigMap.Name, s.ConfigMap.Optional)
		}
		if s.Secret != nil {
			add("Secret", s.Secret.Name, s.Secret.Optional)
		}
	}
}

// headers sets the headers of an http template, some of which come from Secrets.
func (c *Controller) headers(ctx context.Context, key string, e workflow.Request, h http.Header) error {
	ns := path.Dir(key)
	for i, hd := range e.HTTP.Headers {
		v := hd.Value
		if hd.ValueFrom != nil && hd.ValueFrom.SecretKeyRef != nil {
			if err := c.mayAsk(ctx, key, ns, fmt.Sprintf("http.headers[%d].valueFrom.secretKeyRef.name", i), hd.ValueFrom.SecretKeyRef.Name); err != nil {
				return err
			}
			s, err := c.o.Secrets.Secret(ctx, ns, hd.ValueFrom.SecretKeyRef.Name, hd.ValueFrom.SecretKeyRef.Key)
			if err != nil {
				return fmt.Errorf("header %s: %w", hd.Name, err)
			}
			v = s.Reveal()
		}
		h.Add(hd.Name, v)
	}
	return nil
}

// httpClient makes the requests of an http template; call done when its answer was read.
func (c *Controller) httpClient(insecure bool) (client *http.Client, done func()) {
	if !insecure {
		return &http.Client{Transport: c.o.Egress.Shared()}, func() {}
	}
	own := c.o.Egress.Transport(egress.HTTP{TLS: &tls.Config{InsecureSkipVerify: true}}) //nolint:gosec // the template asks for it by insecureSkipVerify
	return &http.Client{Transport: own}, own.CloseIdleConnections
}
