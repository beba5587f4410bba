// Package tiphys writes pipelines in Go: plain Argo objects out of tasks that know each other by reference. It imports the standard
// library only.
//
//	ci := tiphys.NewWorkflow("ci-")
//	build := ci.Task("build", tiphys.Script("golang:1.26", "go build ./..."))
//	ci.Task("test", tiphys.Script("golang:1.26", "go test ./..."), tiphys.TaskOptions{After: tiphys.All(build)})
//	tiphys.Main(ci)
//
// Mistakes are kept with their place in the program until the workflow is rendered. What no option knows goes into More, a field of
// the object that is made, in Argo's own spelling. Options are given once or not at all.
package tiphys

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// Raw are fields in Argo's or Kubernetes' own spelling.
type Raw map[string]any

// Map has names with values, in order: tiphys.Map{{"greeting", "hello"}, {"count", 3}}. Of nil comes a parameter without a value, which
// somebody else has to give; of a Raw come the other fields of a parameter, such as enum or valueFrom; of a list its JSON.
type Map [][2]any

// Tag is any tag: Tag("workflow.name"). Argo replaces it when the run gets there.
func Tag(text string) string { return "{{" + text + "}}" }

// Expression is an expression: Expression("asInt(inputs.parameters.n) + 1").
func Expression(text string) string { return "{{=" + text + "}}" }

// Parameter refers to a parameter of the workflow.
func Parameter(name string) string { return Tag("workflow.parameters." + name) }

// Input refers to an input parameter of the template that it stands in.
func Input(name string) string { return Tag("inputs.parameters." + name) }

// InputArtifact refers to an input artifact of the template that it stands in, to hand it on.
func InputArtifact(name string) string { return Tag("inputs.artifacts." + name) }

// Item is the item of a loop, or one field of it.
func Item(field ...string) string { return Tag(strings.Join(append([]string{"item"}, field...), ".")) }

// Secret is a key of a Secret, as a value of the environment.
func Secret(name, key string) Raw {
	return Raw{"valueFrom": Raw{"secretKeyRef": Raw{"name": name, "key": key}}}
}

// ConfigMap is a key of a ConfigMap, as a value of the environment.
func ConfigMap(name, key string) Raw {
	return Raw{"valueFrom": Raw{"configMapKeyRef": Raw{"name": name, "key": key}}}
}

// Volume is a volume that containers can see.
type Volume struct {
	name   string
	fields Raw
	// claim says that the workflow makes it, not the template.
	claim bool
}

// Mount is a volume and where a container sees it.
type Mount struct {
	volume *Volume
	fields Raw
}

// NewVolume is a volume of any kind: NewVolume("cache", Raw{"emptyDir": Raw{}}).
func NewVolume(name string, source Raw) *Volume {
	return &Volume{name: name, fields: merge(source, Raw{"name": name})}
}

// VolumeClaim is a volume that each run of the workflow gets anew, shared by its steps. More are fields of the claim's spec.
func VolumeClaim(name, size string, more ...Raw) *Volume {
	spec := merge(Raw{"accessModes": []string{"ReadWriteOnce"}}, more...)
	spec["resources"] = Raw{"requests": Raw{"storage": size}}
	return &Volume{name: name, fields: Raw{"metadata": Raw{"name": name}, "spec": spec}, claim: true}
}

// At is the volume at a path; more fields of Kubernetes' volumeMount may follow.
func (v *Volume) At(path string, more ...Raw) Mount {
	return Mount{volume: v, fields: merge(merge(Raw{}, more...), Raw{"name": v.name, "mountPath": path})}
}

// Main prints what a program makes, several objects parted by a line ---. If there are mistakes it prints them to the standard error
// and ends the program with 1.
func Main(objects ...*Workflow) {
	var out bytes.Buffer
	for i, o := range objects {
		made, err := o.Render()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if i > 0 {
			out.WriteString("---\n")
		}
		out.Write(made)
	}
	if _, err := os.Stdout.Write(out.Bytes()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// mistakes keeps what is wrong, each with the place of the program that called this package.
type mistakes struct{ errs []error }

func (m *mistakes) add(format string, args ...any) {
	m.errs = append(m.errs, errors.New(place()+fmt.Sprintf(format, args...)))
}

// place is the innermost line outside of this package, relative to the current folder if it is below.
func place() string {
	callers := make([]uintptr, 32)
	frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers)])
	for {
		frame, more := frames.Next()
		if frame.Function != "" && !strings.HasPrefix(frame.Function, "github.com/tiphys/tiphys/sdk/go.") {
			return fmt.Sprintf("%s:%d: ", short(frame.File), frame.Line)
		}
		if !more {
			return ""
		}
	}
}

// placed adds the place in the program, if whoever runs it asks for it to say where a mistake in the manifest was made.
func placed(made Raw, place string) Raw {
	if os.Getenv("TIPHYS_PLACES") != "" && place != "" {
		made["//"] = strings.TrimSuffix(place, ": ")
	}
	return made
}

func short(file string) string {
	here, err := os.Getwd()
	if err != nil {
		return file
	}
	if relative, err := filepath.Rel(here, file); err == nil && filepath.IsLocal(relative) {
		return relative
	}
	return file
}

// text is a value as Argo keeps it: a list as JSON.
func text(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	data, err := encode(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return strings.TrimSuffix(string(data), "\n")
}

// encode writes JSON in the one way: keys in order, no white space, no HTML escaping, a line feed at the end.
func encode(value any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(value)
	return b.Bytes(), err
}

// merge copies fields, later ones over earlier ones.
func merge(fields Raw, more ...Raw) Raw {
	out := make(Raw, len(fields)+4)
	for _, m := range append([]Raw{fields}, more...) {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

// set puts a field in unless there is nothing to put.
func (r Raw) set(field string, value any, given bool) {
	if given {
		r[field] = value
	}
}
