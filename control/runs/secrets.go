package runs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/secret"
	"github.com/tiphys/tiphys/workflow"
)

// Secrets reads the data of Secrets and ConfigMaps. Create it with [NewSecrets]; methods are safe for concurrent use.
type Secrets struct {
	objects Objects

	mu     sync.Mutex
	opened map[workflow.Ref]opened
}

// NewSecrets returns a reader of objects.
func NewSecrets(objects Objects) *Secrets {
	return &Secrets{objects: objects, opened: map[workflow.Ref]opened{}}
}

// opened is an object's data as it was last read.
type opened struct {
	raw  []byte
	data map[string]secret.Value
}

// Bounds of the data that are kept: how many objects, and the bytes of one.
const (
	maxOpened    = 256
	maxOpenedOne = 64 << 10
)

// data reads a ConfigMap's or Secret's data, which callers do not change. What was read before is read again only if the object
// is another: the token of a webhook is asked for with each delivery.
func (s *Secrets) data(ctx context.Context, ref workflow.Ref) (map[string]secret.Value, error) {
	raw, err := s.objects.Object(ctx, ref)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	known := s.opened[ref]
	s.mu.Unlock()
	if known.data != nil && bytes.Equal(known.raw, raw) {
		return known.data, nil
	}
	data, err := dataOf(ref, raw)
	if err != nil || len(raw) > maxOpenedOne {
		return data, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.opened) >= maxOpened {
		clear(s.opened)
	}
	s.opened[ref] = opened{raw, data}
	return data, nil
}

func dataOf(ref workflow.Ref, raw json.RawMessage) (map[string]secret.Value, error) {
	out := map[string]secret.Value{}
	if ref.Kind == "Secret" {
		s, err := manifest.ReadJSON[corev1.Secret]("Secret "+ref.Name, raw)
		if err != nil {
			return nil, fmt.Errorf("decode: %w", err)
		}
		for k, v := range s.Value.Data {
			out[k] = secret.New(string(v))
		}
		for k, v := range s.Value.StringData {
			out[k] = secret.New(v)
		}
		return out, nil
	}
	cm, err := manifest.ReadJSON[corev1.ConfigMap]("ConfigMap "+ref.Name, raw)
	if err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	for k, v := range cm.Value.Data {
		out[k] = secret.New(v)
	}
	for k, v := range cm.Value.BinaryData {
		out[k] = secret.New(string(v))
	}
	return out, nil
}

// Secret gives one key of a Secret; an error that is [ErrNoObject] if there is none.
func (s *Secrets) Secret(ctx context.Context, namespace, name, key string) (secret.Value, error) {
	data, err := s.data(ctx, workflow.Ref{Kind: "Secret", Namespace: namespace, Name: name})
	if err != nil {
		return secret.Value{}, fmt.Errorf("Secret %s/%s: %w", namespace, name, err)
	}
	v, ok := data[key]
	if !ok {
		return secret.Value{}, fmt.Errorf("Secret %s/%s has no key %q: %w", namespace, name, key, ErrNoObject)
	}
	return v, nil
}
