package podpolicy

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/manifest"
)

// names refuses what the pod names and whom it is for has no right to.
func (j *judgement) names() {
	spec := &j.wish.Pod.Spec
	for _, name := range []string{spec.ServiceAccountName, spec.DeprecatedServiceAccount} {
		j.serviceAccount("spec.serviceAccountName", name)
	}
	each(spec, j.container)
	for i, v := range spec.Volumes {
		j.volume(fmt.Sprintf("spec.volumes[%d]", i), v.VolumeSource)
	}
	for i, s := range spec.ImagePullSecrets {
		j.pullSecret(fmt.Sprintf("spec.imagePullSecrets[%d].name", i), s.Name)
	}
	j.artifacts("inputs.artifacts", j.wish.Inputs)
	j.artifacts("outputs.artifacts", j.wish.Outputs)
}

// free tells whether the subject may name what is in its own namespace.
func (j *judgement) free() bool {
	return j.wish.For.Kind == Own || j.wish.For.Kind == Application || j.wish.For.Kind == Operator
}

func (j *judgement) serviceAccount(path, name string) {
	if name == "" || name == "default" || j.free() ||
		j.all(j.wish.For, j.namespace, func(g Grant) bool { return matches(g.ServiceAccounts, name) }) {
		return
	}
	j.refuse(path, "serviceAccounts: ["+name+"]", "the service account %q is not granted to %s", name, j.wish.For)
}

func (j *judgement) secret(path, name string) {
	if name == "" || j.free() || j.all(j.wish.For, j.namespace, func(g Grant) bool { return matches(g.Secrets, name) }) {
		return
	}
	j.refuse(path, "secrets: ["+name+"]", "the Secret %q is not granted to %s", name, j.wish.For)
}

// pullSecret: whoever pulls uses it on the pod's behalf, and it is no value in the pod. So it needs no grant, but it opens private
// images, which neither a fork nor nobody may have.
func (j *judgement) pullSecret(path, name string) {
	if j.wish.For.never() != "" {
		j.secret(path, name)
	}
}

func (j *judgement) claim(path, name string) {
	if name == "" || j.free() || slices.Contains(j.wish.Claims, name) ||
		j.all(j.wish.For, j.namespace, func(g Grant) bool { return matches(g.Claims, name) }) {
		return
	}
	j.refuse(path, "claims: ["+name+"]", "the PersistentVolumeClaim %q is not granted to %s", name, j.wish.For)
}

func (j *judgement) container(path string, c corev1.Container) {
	for i, e := range c.Env {
		if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
			j.secret(fmt.Sprintf("%s.env[%d].valueFrom.secretKeyRef.name", path, i), e.ValueFrom.SecretKeyRef.Name)
		}
	}
	for i, e := range c.EnvFrom {
		if e.SecretRef != nil {
			j.secret(fmt.Sprintf("%s.envFrom[%d].secretRef.name", path, i), e.SecretRef.Name)
		}
	}
}

func (j *judgement) volume(path string, v corev1.VolumeSource) {
	if v.PersistentVolumeClaim != nil {
		j.claim(path+".persistentVolumeClaim.claimName", v.PersistentVolumeClaim.ClaimName)
	}
	if v.Secret != nil {
		j.secret(path+".secret.secretName", v.Secret.SecretName)
	}
	if v.Projected != nil {
		for i, s := range v.Projected.Sources {
			if s.Secret != nil {
				j.secret(fmt.Sprintf("%s.projected.sources[%d].secret.name", path, i), s.Secret.Name)
			}
		}
	}
	if v.AzureFile != nil {
		j.secret(path+".azureFile.secretName", v.AzureFile.SecretName)
	}
	// The drivers of other storage name their Secrets by a reference of one of two types.
	secretsIn(reflect.ValueOf(v), path, func(path, name string) { j.secret(path+".name", name) },
		reflect.TypeFor[corev1.LocalObjectReference](), reflect.TypeFor[corev1.SecretReference]())
}

func (j *judgement) artifacts(path string, list []manifest.Artifact) {
	for i, a := range list {
		secretsIn(reflect.ValueOf(a), fmt.Sprintf("%s[%d]", path, i), func(path, name string) { j.secret(path+".name", name) },
			reflect.TypeFor[corev1.SecretKeySelector]())
	}
}

// secretsIn calls f for each reference to a Secret in a value: a field of one of the types whose name speaks of a secret, or what a
// field without a type of its own has under such a name.
func secretsIn(v reflect.Value, path string, f func(path, name string), types ...reflect.Type) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			secretsIn(v.Elem(), path, f, types...)
		}
	case reflect.Slice:
		for i := range v.Len() {
			secretsIn(v.Index(i), fmt.Sprintf("%s[%d]", path, i), f, types...)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			below := path + "." + key.String()
			object, is := v.MapIndex(key).Interface().(map[string]any)
			if name, named := object["name"].(string); is && named && strings.Contains(strings.ToLower(key.String()), "secret") {
				f(below, name)
				continue
			}
			secretsIn(v.MapIndex(key), below, f, types...)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if !field.IsExported() {
				continue
			}
			below := path
			if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" && name != "-" {
				below += "." + name
			}
			value := reflect.Indirect(v.Field(i))
			if value.IsValid() && slices.Contains(types, value.Type()) && strings.Contains(strings.ToLower(field.Name), "secret") {
				f(below, value.FieldByName("Name").String())
				continue
			}
			secretsIn(v.Field(i), below, f, types...)
		}
	}
}
