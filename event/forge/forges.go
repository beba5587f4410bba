package forge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/secret"
)

// Type is a type of forge that can be declared: what makes a client of a declaration. It holds no state.
type Type interface {
	// Name is the type in a declaration: "gitlab".
	Name() string
	// Check says what is wrong with a declaration of this type, by paths from its root, beyond what every declaration needs.
	Check(manifest.ForgeSpec) []manifest.Diagnostic
	// Open makes a client, which asks by the HTTP client that it is given and by no other: the address of a forge is a manifest's. It asks
	// the forge nothing yet.
	Open(manifest.ForgeSpec, Credentials, *http.Client) (Forge, error)
}

// Credentials are read at each request, so that a replaced token is used at once.
type Credentials interface {
	// Token is that of the declaration; the zero value if it names none.
	Token(ctx context.Context) (secret.Value, error)
}

// SecretReader gives one key of a Secret.
type SecretReader interface {
	Secret(ctx context.Context, namespace, name, key string) (secret.Value, error)
}

// Declaration is a Forge as it is declared.
type Declaration struct {
	Namespace, Name, Digest string
	Spec                    manifest.ForgeSpec
	// Problem says why the declaration cannot be read: then Spec is that of the last version that could be, with its Digest, and Digest is
	// empty if there is none.
	Problem error
}

// Declarations are the Forges that are declared now. The error is one of reading them at all.
type Declarations interface {
	Forges(ctx context.Context) ([]Declaration, error)
}

// Forges finds forges by instance and by repository. The built-in remote is one; the others are declared. Methods are safe for
// concurrent use.
type Forges struct {
	builtin  Instance
	types    map[string]Type
	declared Declarations
	secrets  SecretReader
	http     *http.Client

	mu   sync.Mutex
	open map[string]opened // by name
}

type opened struct {
	digest   string
	instance Instance
}

// NewForges returns a registry, whose declared forges are asked by an HTTP client. Of two types with one name the second is an error.
func NewForges(builtin Instance, types []Type, declared Declarations, secrets SecretReader, client *http.Client) (*Forges, error) {
	f := &Forges{builtin: builtin, types: map[string]Type{}, declared: declared, secrets: secrets, http: client, open: map[string]opened{}}
	for _, t := range types {
		if f.types[t.Name()] != nil || t.Name() == builtin.Type {
			return nil, fmt.Errorf("forge type %q is registered twice", t.Name())
		}
		f.types[t.Name()] = t
	}
	return f, nil
}

// Check says what is wrong with a declaration beyond what [manifest.Check] says: that its type is not run here, or what the type says.
func Check(types []Type, o manifest.Object) []manifest.Diagnostic {
	def, found := manifest.Read[manifest.Forge](o)
	if manifest.Failed(found) {
		return nil
	}
	spec := def.Value.Spec
	i := slices.IndexFunc(types, func(t Type) bool { return t.Name() == spec.Type })
	switch {
	case i >= 0:
		return manifest.Locate(o.Tree, types[i].Check(spec))
	case spec.Type != "":
		return manifest.Locate(o.Tree, []manifest.Diagnostic{{Severity: manifest.SeverityError, Path: "spec.type",
			Message: fmt.Sprintf("forge type %q is not run by this version", spec.Type), Hint: "mirror its repositories to the built-in remote"}})
	}
	return nil
}

// Instance gives a forge by its name; an error that is [ErrNotFound] if there is none of that name.
func (f *Forges) Instance(ctx context.Context, name string) (Instance, error) {
	if name == f.builtin.Name {
		return f.builtin, nil
	}
	list, err := f.declared.Forges(ctx)
	if err != nil {
		return Instance{}, err
	}
	for _, d := range list {
		if d.Namespace+"/"+d.Name == name {
			return f.instance(d)
		}
	}
	return Instance{}, fmt.Errorf("forge %s: %w: declare it with kind Forge", name, ErrNotFound)
}

// instance makes the client of a declaration, or gives the one that there is.
func (f *Forges) instance(d Declaration) (Instance, error) {
	name := d.Namespace + "/" + d.Name
	if d.Problem != nil && d.Digest == "" {
		return Instance{}, failure.Stalledf("forge %s cannot be used until its declaration is mended: %w", name, d.Problem)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if known, ok := f.open[name]; ok && known.digest == d.Digest {
		return known.instance, nil
	}
	t := f.types[d.Spec.Type]
	if t == nil {
		return Instance{}, failure.Stalledf("forge %s: type %q is not run by this version: mirror its repositories to the built-in remote", name, d.Spec.Type)
	}
	client, err := t.Open(d.Spec, token{f.secrets, d.Namespace, d.Spec.Token}, f.http)
	if err != nil {
		return Instance{}, fmt.Errorf("open forge %s: %w", name, err)
	}
	made := Instance{Name: name, Type: d.Spec.Type, URL: strings.TrimSuffix(d.Spec.URL, "/"), API: strings.TrimSuffix(d.Spec.API, "/"),
		Forge: client, Addresses: Host(d.Spec.URL)}
	f.open[name] = opened{d.Digest, made}
	return made, nil
}

// token is a declaration's credentials.
type token struct {
	secrets   SecretReader
	namespace string
	from      *corev1.SecretKeySelector
}

// Token implements Credentials.
func (t token) Token(ctx context.Context) (secret.Value, error) {
	if t.from == nil {
		return secret.Value{}, nil
	}
	v, err := t.secrets.Secret(ctx, t.namespace, t.from.Name, t.from.Key)
	if err != nil {
		return v, fmt.Errorf("read the forge's token in secret %s/%s: %w", t.namespace, t.from.Name, err)
	}
	return v, nil
}

// Of finds the forge and the repository that a clone URL or web address names. The longest URL of a forge counts, and the built-in remote
// before all. An error that is [ErrNotFound] says that no forge is declared for it.
func (f *Forges) Of(ctx context.Context, raw string) (Instance, string, error) {
	if repo, ok := f.builtin.Addresses.RepositoryOf(raw); ok {
		return f.builtin, repo, nil
	}
	list, err := f.declared.Forges(ctx)
	if err != nil {
		return Instance{}, "", err
	}
	best, repo := -1, ""
	for i, d := range list {
		name, ok := Host(d.Spec.URL).RepositoryOf(raw)
		if ok && (best < 0 || len(d.Spec.URL) > len(list[best].Spec.URL)) {
			best, repo = i, name
		}
	}
	if best < 0 {
		return Instance{}, "", fmt.Errorf("%s: %w: no forge is declared for it", redacted(raw), ErrNotFound)
	}
	in, err := f.instance(list[best])
	return in, repo, err
}

// Is tells whether a clone URL or web address names a repository of an instance. The instance may be one that is not declared; see [Undeclared].
func (f *Forges) Is(ctx context.Context, raw, instance, repo string) (bool, error) {
	in, name, err := f.Of(ctx, raw)
	if err == nil {
		return in.Name == NameOf(instance) && (name == repo || !in.Local && strings.EqualFold(name, repo)), nil
	}
	if !errors.Is(err, ErrNotFound) {
		return false, err
	}
	_, address, found := strings.Cut(instance, undeclared)
	if !found {
		return false, nil
	}
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	name, ok := Host(address).RepositoryOf(raw)
	return ok && strings.EqualFold(name, repo), nil
}

// Sent finds the forge that an event came from, by its type and by the instance that the event names (event.Git's Forge and Instance).
func (f *Forges) Sent(ctx context.Context, kind, instance string) (Instance, error) {
	if kind == f.builtin.Type {
		return f.builtin, nil
	}
	return f.only(ctx, kind, instance)
}

// Asked finds the forge that a pullRequest generator asks: by its type, and by the address of the API if it names one. Without one there
// must be one forge of the type.
func (f *Forges) Asked(ctx context.Context, kind, api string) (Instance, error) {
	if kind == f.builtin.Type {
		return f.builtin, nil
	}
	return f.only(ctx, kind, api)
}

// only is the one forge of a type at an address; of any address if that is empty.
func (f *Forges) only(ctx context.Context, kind, address string) (Instance, error) {
	list, err := f.declared.Forges(ctx)
	if err != nil {
		return Instance{}, err
	}
	var found []Declaration
	for _, d := range list {
		if d.Spec.Type == kind && (address == "" || same(d.Spec.URL, address) || same(d.Spec.API, address)) {
			found = append(found, d)
		}
	}
	at := ""
	if address != "" {
		at = " at " + redacted(address)
	}
	switch len(found) {
	case 0:
		return Instance{}, fmt.Errorf("%s%s: %w: declare it with kind Forge, or mirror the repository to the built-in remote", kind, at, ErrNotFound)
	case 1:
		return f.instance(found[0])
	}
	return Instance{}, failure.Invalidf("%d forges of type %s are declared%s: say which by its address", len(found), kind, at)
}

// same compares addresses without regard to a slash at the end, to the case of the host and to the scheme.
func same(a, b string) bool {
	if !strings.Contains(b, "://") {
		b = "https://" + b // an instance may be named by its host alone
	}
	u, err := url.Parse(a)
	v, err2 := url.Parse(b)
	if err != nil || err2 != nil || u.Host == "" {
		return false
	}
	return strings.EqualFold(u.Host, v.Host) && strings.Trim(u.Path, "/") == strings.Trim(v.Path, "/")
}

// redacted is an address without a password.
func redacted(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "the address"
	}
	return u.Redacted()
}

// State is where a forge stands.
type State struct {
	Name string `json:"name"`
	Type string `json:"type"`
	URL  string `json:"url"`
	// Problem says why it cannot be used, or why an earlier version of its declaration is; empty if all is well.
	Problem string `json:"problem,omitempty"`
}

// States tells of every forge, the built-in remote first.
func (f *Forges) States(ctx context.Context) ([]State, error) {
	list, err := f.declared.Forges(ctx)
	if err != nil {
		return nil, err
	}
	out := []State{{Name: f.builtin.Name, Type: f.builtin.Type, URL: f.builtin.URL}}
	for _, d := range list {
		s := State{Name: d.Namespace + "/" + d.Name, Type: d.Spec.Type, URL: d.Spec.URL}
		if _, err := f.instance(d); errors.Join(err, d.Problem) != nil {
			s.Problem = errors.Join(d.Problem, err).Error()
		}
		out = append(out, s)
	}
	return out, nil
}
