package manifest

import (
	"fmt"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Forge declares an instance of a Git host beside the built-in remote (a kind of our own): where it is, and with which
// credentials it is asked. Several instances of one type may be declared. Its name among instances is namespace/name.
type Forge struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              ForgeSpec `json:"spec"`
}

// ForgeSpec is where a forge is.
type ForgeSpec struct {
	// Type is gitlab, github, gitea, bitbucket or bitbucketserver.
	Type string `json:"type"`
	// URL is the address under which people see repositories and clone them: "https://gitlab.example.org".
	URL string `json:"url"`
	// API is the address of the API, where that does not follow from URL.
	API string `json:"api,omitempty"`
	// Token is the credential of the API: a key of a Secret in the Forge's namespace.
	Token *corev1.SecretKeySelector `json:"token,omitempty"`
}

// Validate checks a Forge; whether its type is run is not asked.
func (f *Forge) Validate() []Diagnostic {
	var found []Diagnostic
	fail := func(path, hint, format string, args ...any) {
		found = append(found, Diagnostic{Severity: SeverityError, Path: path, Message: fmt.Sprintf(format, args...), Hint: hint})
	}
	if f.Spec.Type == "" {
		fail("spec", "say gitlab, github, gitea, bitbucket or bitbucketserver", "spec.type is required")
	}
	for _, one := range []struct {
		path, text string
		required   bool
	}{{"spec.url", f.Spec.URL, true}, {"spec.api", f.Spec.API, false}} {
		if one.text == "" {
			if one.required {
				fail("spec", "say where the forge is: https://gitlab.example.org", "%s is required", one.path)
			}
			continue
		}
		u, err := url.Parse(one.text)
		switch {
		case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
			fail(one.path, "write https://HOST", "%s is not an http or https address", one.path)
		case u.User != nil:
			fail(one.path, "put the token into a Secret and name it in spec.token", "%s has a user or password in it", one.path)
		case u.RawQuery != "" || u.Fragment != "" || strings.Contains(u.Path, ".."):
			fail(one.path, "leave everything behind the path out", "%s is not the address of a server", one.path)
		}
	}
	if t := f.Spec.Token; t != nil && (t.Name == "" || t.Key == "") {
		fail("spec.token", "", "a token needs the name of a Secret and a key")
	}
	return found
}
