// Package render turns a folder of a checkout into Kubernetes objects: plain YAML and JSON, Jsonnet, or a kustomization by
// the kustomize library. Paths are opened below the checkout by handle (os.Root), so a link or "../" that leaves it
// is refused by the kernel; nothing is executed and nothing is fetched.
//
// Use [Child] for what others wrote: it renders in a confined process of this same program, whose hidden command
// runs [Main].
package render

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/manifest"
)

// The tools that a source can be rendered with.
const (
	ToolDirectory = "Directory"
	ToolKustomize = "Kustomize"
)

// Source is what to render.
type Source struct {
	// Root is the folder of the checkout; it is not sent to the child, which gets a handle.
	Root string `json:"-"`
	// Path is the source's folder in the checkout; empty means the root.
	Path      string                    `json:"path"`
	Directory *manifest.DirectorySource `json:"directory,omitempty"`
	Kustomize *manifest.KustomizeSource `json:"kustomize,omitempty"`
	// Images replaces images after rendering: a service or image name to a reference. See [Override].
	Images map[string]string `json:"images,omitempty"`
	// AppName is the Application, whose own overrides in the repository count; Namespace is given to namespaced objects that have
	// none. With the others they are what parameters may name, Revision being the commit.
	AppName        string `json:"appName,omitempty"`
	Namespace      string `json:"namespace,omitempty"`
	Project        string `json:"project,omitempty"`
	RepoURL        string `json:"repoURL,omitempty"`
	TargetRevision string `json:"targetRevision,omitempty"`
	Revision       string `json:"revision,omitempty"`
	Limits         Limits `json:"limits"`
}

// Limits bound a rendering. Zero values mean the defaults.
type Limits struct {
	// FileBytes is the size of one file (4 MiB), TotalBytes of all that is read (32 MiB).
	FileBytes  int64 `json:"fileBytes,omitempty"`
	TotalBytes int64 `json:"totalBytes,omitempty"`
	// Files and Objects are counts (5,000 each).
	Files   int `json:"files,omitempty"`
	Objects int `json:"objects,omitempty"`
}

func (l Limits) withDefaults() Limits {
	if l.FileBytes == 0 {
		l.FileBytes = 4 << 20
	}
	if l.TotalBytes == 0 {
		l.TotalBytes = 32 << 20
	}
	if l.Files == 0 {
		l.Files = 5000
	}
	if l.Objects == 0 {
		l.Objects = 5000
	}
	return l
}

// Result is what a source renders to.
type Result struct {
	Tool    string                       `json:"tool"`
	Objects []*unstructured.Unstructured `json:"objects"`
	// Problems with severity error keep the result from being used; their position is in the checkout.
	Problems []manifest.Diagnostic `json:"problems,omitempty"`
	// Unused are keys of Images that match no image.
	Unused []string `json:"unused,omitempty"`
}

// Render renders in this process. The error is for what cannot be rendered at all.
func Render(ctx context.Context, s Source) (Result, error) {
	root, err := os.OpenRoot(s.Root)
	if err != nil {
		return Result{}, fmt.Errorf("open checkout: %w", err)
	}
	defer func() { _ = root.Close() }()
	return renderRoot(ctx, root, s)
}

func renderRoot(ctx context.Context, root *os.Root, s Source) (Result, error) {
	s.Limits = s.Limits.withDefaults()
	t := &tree{ctx: ctx, root: root, limits: s.Limits}
	dir, err := t.folder(s.Path)
	if err != nil {
		return Result{}, err
	}
	r := Result{Tool: ToolDirectory}
	if s, err = overridden(t, dir, s); err != nil {
		return Result{}, fmt.Errorf("render %s: %w", show(dir), err)
	}
	file := t.kustomization(dir)
	if refusal := t.refusal(); refusal != nil {
		return Result{}, refusal
	}
	switch {
	case !s.Kustomize.IsZero() && file == "":
		return Result{}, fmt.Errorf("render %s: spec.source.kustomize is set and there is no kustomization.yaml", show(dir))
	case file != "" && s.Directory.IsZero():
		r.Tool = ToolKustomize
		r.Objects, err = kustomize(t, dir, file, s)
	case t.exists(path.Join(dir, "Chart.yaml")) && s.Directory.IsZero():
		return Result{}, fmt.Errorf("render %s: it is a Helm chart, and Helm is not supported yet; render it to a folder", show(dir))
	default:
		r.Objects, r.Problems, err = directory(t, dir, s)
	}
	if err != nil {
		return Result{}, err
	}
	if len(r.Objects) > s.Limits.Objects {
		return Result{}, fmt.Errorf("render %s: %d objects, more than the %d allowed", show(dir), len(r.Objects), s.Limits.Objects)
	}
	r.finish(s)
	return r, nil
}

func show(dir string) string {
	if dir == "." {
		return "the repository"
	}
	return dir
}

// finish fills in namespaces, replaces images, and keeps the last of objects that are there twice.
func (r *Result) finish(s Source) {
	used := map[string]bool{}
	last := map[deploy.Key]int{}
	for i, o := range r.Objects {
		if Namespaced(o) && o.GetNamespace() == "" {
			o.SetNamespace(s.Namespace)
		}
		Override(o.Object, s.Images, used)
		if o.GetName() != "" {
			key := deploy.KeyOf(o)
			if _, twice := last[key]; twice {
				r.Problems = append(r.Problems, manifest.Diagnostic{Severity: manifest.SeverityWarning,
					Message: fmt.Sprintf("%s is there more than once; the last one counts", key)})
			}
			last[key] = i
		}
	}
	kept := r.Objects[:0]
	for i, o := range r.Objects {
		if at, known := last[deploy.KeyOf(o)]; !known || at == i {
			kept = append(kept, o)
		}
	}
	r.Objects = kept
	for key := range s.Images {
		if !used[key] {
			r.Unused = append(r.Unused, key)
		}
	}
	slices.Sort(r.Unused)
}

// Kubernetes' own kinds that have no namespace.
var clusterScoped = []string{"Namespace", "Node", "PersistentVolume", "ClusterRole", "ClusterRoleBinding",
	"CustomResourceDefinition", "StorageClass", "PriorityClass", "IngressClass", "RuntimeClass", "CSIDriver", "CSINode",
	"VolumeAttachment", "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration", "ValidatingAdmissionPolicy",
	"ValidatingAdmissionPolicyBinding", "APIService", "FlowSchema", "PriorityLevelConfiguration", "CertificateSigningRequest",
	"ClusterTrustBundle", "GatewayClass"}

// Namespaced reports whether objects of this kind live in a namespace. Kinds that are not Kubernetes' own are
// taken to.
func Namespaced(o *unstructured.Unstructured) bool {
	group := o.GroupVersionKind().Group
	own := group == "" || !strings.Contains(group, ".") || strings.HasSuffix(group, ".k8s.io")
	return !own || !slices.Contains(clusterScoped, o.GetKind())
}

// errRefused is wrapped by every refusal to read.
var errRefused = errors.New("refused")

// Refused reports whether an error of [Render] says that a source tried to reach what it must not.
func Refused(err error) bool { return errors.Is(err, errRefused) }
