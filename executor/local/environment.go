package local

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/tiphys/tiphys/secret"
)

// environment is a container's variables in the order of their first definition.
type environment struct {
	names  []string
	values map[string]string
}

func newEnvironment() *environment { return &environment{values: map[string]string{}} }

func (v *environment) set(name, value string) {
	if _, ok := v.values[name]; !ok {
		v.names = append(v.names, name)
	}
	v.values[name] = value
}

func (v *environment) list() []string {
	list := make([]string, len(v.names))
	for i, name := range v.names {
		list[i] = name + "=" + v.values[name]
	}
	return list
}

// expand replaces $(NAME) with the variable's value, as Kubernetes does: $$ is a dollar sign, and what names no
// variable stays as it is.
func (v *environment) expand(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '$' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		switch text[i+1] {
		case '$':
			b.WriteByte('$')
			i++
		case '(':
			end := strings.IndexByte(text[i:], ')')
			if end < 0 {
				b.WriteString(text[i:])
				return b.String()
			}
			if value, ok := v.values[text[i+2:i+end]]; ok {
				b.WriteString(value)
			} else {
				b.WriteString(text[i : i+end+1])
			}
			i += end
		default:
			b.WriteByte('$')
		}
	}
	return b.String()
}

func (v *environment) expandAll(texts []string) []string {
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = v.expand(t)
	}
	return out
}

// environment follows Kubernetes: the image's variables, then envFrom, then env, each over the former; then
// what the pod's order adds.
func (b *builder) environment(c *corev1.Container, image Image) (*environment, error) {
	env := newEnvironment()
	for _, e := range image.Env {
		if name, value, ok := strings.Cut(e, "="); ok {
			env.set(name, value)
		}
	}
	if !b.a.host {
		env.set("HOSTNAME", b.hostname())
	}
	for _, from := range c.EnvFrom {
		if err := b.envFrom(env, from); err != nil {
			return nil, err
		}
	}
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			env.set(e.Name, env.expand(e.Value))
			continue
		}
		value, ok, err := b.valueFrom(c, e.ValueFrom)
		if err != nil {
			return nil, fmt.Errorf("env %s: %w", e.Name, err)
		}
		if ok {
			env.set(e.Name, value)
		}
	}
	for name, value := range b.pod.Env {
		env.set(name, value)
	}
	if !b.pod.Token.IsZero() {
		env.set("TIPHYS_TOKEN", b.pod.Token.Reveal())
	}
	path := env.values["PATH"]
	if path == "" {
		path = standardPath
	}
	env.set("PATH", path+":"+b.clientFolder())
	return env, nil
}

func (b *builder) envFrom(env *environment, from corev1.EnvFromSource) error {
	var data map[string]secret.Value
	var err error
	switch {
	case from.ConfigMapRef != nil:
		data, err = b.object("ConfigMap", from.ConfigMapRef.Name, from.ConfigMapRef.Optional)
	case from.SecretRef != nil:
		data, err = b.object("Secret", from.SecretRef.Name, from.SecretRef.Optional)
	}
	if err != nil {
		return err
	}
	for _, key := range sortedKeys(data) {
		if !strings.ContainsAny(key, "=\x00") {
			env.set(from.Prefix+key, data[key].Reveal())
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// object finds the data of a ConfigMap or Secret; nil if it is optional and not there.
func (b *builder) object(kind, name string, optional *bool) (map[string]secret.Value, error) {
	data, ok := b.pod.Resolve[kind+"/"+b.pod.Pod.Namespace+"/"+name]
	if !ok && (optional == nil || !*optional) {
		return nil, missingError(fmt.Sprintf("%s %q not found", strings.ToLower(kind), name))
	}
	return data, nil
}

// missingError says that a pod needs an object, or a key of one, that is not there.
type missingError string

func (e missingError) Error() string { return string(e) }

func (b *builder) key(kind, name, key string, optional *bool) (string, bool, error) {
	data, err := b.object(kind, name, optional)
	if err != nil {
		return "", false, err
	}
	v, ok := data[key]
	if !ok && (optional == nil || !*optional) {
		return "", false, fmt.Errorf("couldn't find key %s in %s %s/%s", key, kind, b.pod.Pod.Namespace, name)
	}
	return v.Reveal(), ok, nil
}

func (b *builder) valueFrom(c *corev1.Container, from *corev1.EnvVarSource) (value string, ok bool, err error) {
	switch {
	case from.ConfigMapKeyRef != nil:
		return b.key("ConfigMap", from.ConfigMapKeyRef.Name, from.ConfigMapKeyRef.Key, from.ConfigMapKeyRef.Optional)
	case from.SecretKeyRef != nil:
		return b.key("Secret", from.SecretKeyRef.Name, from.SecretKeyRef.Key, from.SecretKeyRef.Optional)
	case from.FieldRef != nil:
		value, err = b.field(from.FieldRef.FieldPath)
		return value, err == nil, err
	case from.ResourceFieldRef != nil:
		value, err = b.resource(c, from.ResourceFieldRef)
		return value, err == nil, err
	}
	return "", false, fmt.Errorf("this kind of valueFrom is not supported")
}

// field answers the downward API for a field of the pod.
func (b *builder) field(path string) (string, error) {
	meta := &b.pod.Pod.ObjectMeta
	if name, rest, ok := strings.Cut(path, "['"); ok && strings.HasSuffix(rest, "']") {
		key := strings.TrimSuffix(rest, "']")
		switch name {
		case "metadata.labels":
			return meta.Labels[key], nil
		case "metadata.annotations":
			return meta.Annotations[key], nil
		}
	}
	switch path {
	case "metadata.name":
		return meta.Name, nil
	case "metadata.namespace":
		return meta.Namespace, nil
	case "metadata.uid":
		return string(meta.UID), nil
	case "metadata.labels":
		return quoted(meta.Labels), nil
	case "metadata.annotations":
		return quoted(meta.Annotations), nil
	case "spec.nodeName":
		return b.e.host, nil
	case "spec.serviceAccountName":
		return b.spec.ServiceAccountName, nil
	case "status.podIP", "status.podIPs":
		return b.a.ip, nil
	case "status.hostIP", "status.hostIPs":
		return b.e.network.gateway(), nil
	}
	return "", fmt.Errorf("fieldPath %q is not supported", path)
}

// quoted writes labels as the downward API does: name="value", a line each.
func quoted(m map[string]string) string {
	var lines []string
	for _, k := range sortedKeys(m) {
		lines = append(lines, k+"="+strconv.Quote(m[k]))
	}
	return strings.Join(lines, "\n")
}

// resource answers the downward API for a limit or request. Without a limit it is what this machine has.
func (b *builder) resource(c *corev1.Container, ref *corev1.ResourceFieldSelector) (string, error) {
	if ref.ContainerName != "" {
		for i := range b.spec.Containers {
			if b.spec.Containers[i].Name == ref.ContainerName {
				c = &b.spec.Containers[i]
			}
		}
	}
	kind, name, ok := strings.Cut(ref.Resource, ".")
	list := c.Resources.Limits
	if kind == "requests" {
		list = c.Resources.Requests
	}
	if !ok || (kind != "limits" && kind != "requests") {
		return "", fmt.Errorf("resource %q is not supported", ref.Resource)
	}
	q, has := list[corev1.ResourceName(name)]
	if !has && kind == "limits" {
		q = machineResource(name)
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if name == "cpu" {
		return strconv.FormatInt(int64(math.Ceil(float64(q.MilliValue())/float64(divisor.MilliValue()))), 10), nil
	}
	return strconv.FormatInt(int64(math.Ceil(float64(q.Value())/float64(divisor.Value()))), 10), nil
}

func machineResource(name string) resource.Quantity {
	switch name {
	case "cpu":
		return *resource.NewQuantity(int64(runtime.NumCPU()), resource.DecimalSI)
	case "memory":
		data, err := os.ReadFile("/proc/meminfo")
		if err != nil {
			break
		}
		if f := strings.Fields(string(data)); len(f) > 1 {
			if kib, err := strconv.ParseInt(f[1], 10, 64); err == nil {
				return *resource.NewQuantity(kib<<10, resource.BinarySI)
			}
		}
	}
	return resource.Quantity{}
}
