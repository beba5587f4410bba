package local_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/health"
)

// serving is a pod and its Service, which answers with its image.
func serving(name, image string) string {
	return fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: %[1]s, namespace: prod, labels: {app: %[1]s}}, spec: {containers: [{name: c, image: %[2]s, ports: [{name: web, containerPort: 8080}]}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: %[1]s, namespace: prod}, spec: {selector: {app: %[1]s}, ports: [{name: http, port: 80, targetPort: 8080}]}}`, name, image)
}

// ingressOf is an Ingress of paths "Type /path service", with annotations of nginx.
func ingressOf(name, host, annotations string, paths ...string) string {
	var list []string
	for _, p := range paths {
		f := strings.Fields(p)
		list = append(list, fmt.Sprintf("{path: '%s', pathType: %s, backend: {service: {name: %s, port: {number: 80}}}}", f[1], f[0], f[2]))
	}
	var notes []string
	for _, a := range strings.Split(annotations, "\n") {
		if a != "" {
			notes = append(notes, "nginx.ingress.kubernetes.io/"+strings.TrimSpace(a))
		}
	}
	return fmt.Sprintf("{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: %s, namespace: prod, annotations: {%s}}, spec: {rules: [{host: '%s', http: {paths: [%s]}}]}}",
		name, strings.Join(notes, ", "), host, strings.Join(list, ", "))
}

// routed is a machine with the services a, b, c and echo.
func routed(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t)
	for _, name := range []string{"a", "b", "c", "echo"} {
		m.apply(serving(name, name))
	}
	for _, name := range []string{"a", "b", "c", "echo"} {
		m.awaitHealth("Pod", name, health.Healthy)
	}
	return m
}

// asks waits until the answers are as they should be: "/path answer", where an answer that is a number is a status.
func (m *machine) asks(what, host string, wants ...string) {
	m.t.Helper()
	for i, want := range wants {
		path, want, _ := strings.Cut(want, " ")
		got := ""
		is := func() bool {
			code, body := m.request(host, path)
			if got = body; code != http.StatusOK {
				got = fmt.Sprint(code)
			}
			return got == want
		}
		if i == 0 { // what was applied takes a moment to count
			for range 60 {
				if is() {
					break
				}
				time.Sleep(5 * time.Millisecond)
			}
		}
		if !is() {
			m.t.Errorf("%s: %s%s: %q, want %q", what, host, path, got, want)
		}
	}
}

// The table of examples of https://kubernetes.io/docs/concepts/services-networking/ingress/#examples, and the one of host names below it.
func TestIngressPaths(t *testing.T) {
	m := routed(t)
	for i, c := range []struct {
		paths []string
		wants []string
	}{
		{[]string{"Prefix / a"}, []string{"/ a", "/all/paths a"}},
		{[]string{"Exact /foo a"}, []string{"/foo a", "/bar 404", "/foo/ 404"}},
		{[]string{"Exact /foo/ a"}, []string{"/foo/ a", "/foo 404"}},
		{[]string{"Prefix /foo a"}, []string{"/foo a", "/foo/ a", "/foo/bar a", "/foobar 404"}},
		{[]string{"Prefix /foo/ a"}, []string{"/foo/ a", "/foo a", "/foo/bar a", "/foobar 404"}},
		{[]string{"Prefix /aaa/bb a"}, []string{"/aaa/bb a", "/aaa/bbb 404"}},
		{[]string{"Prefix /aaa/bbb a"}, []string{"/aaa/bbb a", "/aaa/bbb/ a", "/aaa/bbb/ccc a", "/aaa/bbbxyz 404"}},
		{[]string{"Prefix /aaa/bbb/ a"}, []string{"/aaa/bbb a", "/aaa/bbb/ a"}},
		{[]string{"Prefix / a", "Prefix /aaa b"}, []string{"/aaa/ccc b", "/ccc a"}},
		{[]string{"Prefix / a", "Prefix /aaa b", "Prefix /aaa/bbb c"}, []string{"/aaa/bbb c", "/aaa/ccc b", "/ccc a"}},
		{[]string{"Prefix /foo a", "Exact /foo b"}, []string{"/foo b", "/foo/ a"}},
		// ingress-nginx: what is implementation specific is a prefix unless a regular expression is asked for (docs/user-guide/ingress-path-matching.md).
		{[]string{"ImplementationSpecific /foo a"}, []string{"/foo a", "/foo/bar a", "/foobar 404"}},
		// The longest wins, whether or not it is written with a slash at its end.
		{[]string{"Prefix /aaa/ a", "Prefix /aaa/b b"}, []string{"/aaa/b b", "/aaa a"}},
		// A path is what it means: nobody goes around a longer one by how it is written (nginx decides by the normalised path).
		{[]string{"Prefix / a", "Prefix /admin b"}, []string{"/x/../admin b", "//admin b", "/./admin/x b", "/admin/../x a"}},
	} {
		host := fmt.Sprintf("paths%d.example.org", i)
		m.apply(ingressOf(fmt.Sprint("paths", i), host, "", c.paths...))
		m.asks(strings.Join(c.paths, ", "), host, c.wants...)
	}
}

func TestIngressHosts(t *testing.T) {
	m := routed(t)
	m.apply(ingressOf("wild", "*.foo.com", "", "Prefix / a"))
	m.asks("wildcard", "bar.foo.com", "/ a")
	m.asks("wildcard", "baz.bar.foo.com", "/ 421")
	m.asks("wildcard", "foo.com", "/ 421")
	m.apply(ingressOf("whole", "exact.foo.com", "", "Prefix /only b"))
	m.asks("a whole name before a wildcard", "exact.foo.com", "/only b", "/other 404")
	// Several Ingresses of one host are one; of two for the same path the older one counts, as with ingress-nginx.
	m.apply(ingressOf("two", "exact.foo.com", "", "Prefix /two c"))
	m.apply(ingressOf("again", "exact.foo.com", "", "Prefix /only a"))
	m.asks("merged", "exact.foo.com", "/two c", "/only b")
}

// A default backend has what no rule of its hosts has (https://kubernetes.io/docs/concepts/services-networking/ingress/#default-backend).
func TestIngressDefaultBackend(t *testing.T) {
	m := routed(t)
	m.apply(`{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: a, namespace: prod}, spec: {defaultBackend: {service: {name: a, port: {number: 80}}},
  rules: [{host: d.example.org, http: {paths: [{path: /b, pathType: Prefix, backend: {service: {name: b, port: {number: 80}}}}]}}, {host: none.example.org}]}}`)
	m.asks("for the rest", "d.example.org", "/b b", "/x a", "/ a")
	m.asks("a rule without paths", "none.example.org", "/x a")
	m.apply(ingressOf("rest", "d.example.org", "", "Prefix / c"))
	m.asks("a rule is before another Ingress's default backend", "d.example.org", "/ c", "/x c", "/b b")
	m.asks("no host of it", "nobody.example.org", "/ 421")
	m.apply(`{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: all, namespace: prod}, spec: {defaultBackend: {service: {name: c, port: {name: http}}}}}`)
	m.asks("for every host that nobody has", "nobody.example.org", "/ c", "/x c")
	m.asks("for every host that nobody has", "d.example.org", "/b b")
	o := ingressObject(t, ingressOf("every", "", "", "Prefix / a"))
	for _, text := range []string{ingressOf("every", "", "", "Prefix / a"),
		"{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: every, namespace: mr}, spec: {defaultBackend: {service: {name: c, port: {name: http}}}}}"} {
		o = ingressObject(t, strings.ReplaceAll(text, "namespace: prod", "namespace: mr"))
		opt := deploy.ApplyOptions{Application: "default/preview"}
		opt.For.MergeRequest = 7
		if _, err := m.Apply(t.Context(), o, opt); err == nil || !strings.Contains(err.Error(), "host") {
			t.Errorf("a merge request takes every host: %v", err)
		}
	}
	if _, err := m.Apply(t.Context(), o, deploy.ApplyOptions{Application: "default/other"}); err == nil || !strings.Contains(err.Error(), "default/app") {
		t.Errorf("a second application takes every host: %v", err)
	}
}

func ingressObject(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	return o
}

// Sources: ingress-nginx docs/examples/rewrite/README.md, docs/user-guide/ingress-path-matching.md, docs/user-guide/nginx-configuration/annotations.md.
func TestIngressRewrite(t *testing.T) {
	m := routed(t)
	for i, c := range []struct {
		annotations string
		paths       []string
		wants       []string
	}{
		{"use-regex: 'true'\nrewrite-target: /$2", []string{"ImplementationSpecific /something(/|$)(.*) echo"},
			[]string{"/something / for", "/something/ / for", "/something/new /new for", "/something/new?q=1 /new?q=1 for", "/else 404"}},
		{"rewrite-target: /$1", []string{"ImplementationSpecific /api/(.*) echo"}, []string{"/api/v1/x /v1/x for", "/API/v1 /v1 for"}},
		{"rewrite-target: /", []string{"Prefix /any echo"}, []string{"/any/thing / for", "/any / for"}},
		{"use-regex: 'true'", []string{"ImplementationSpecific /foo/.* echo"}, []string{"/foo/bar /foo/bar for", "/foo 404"}},
		// Longer paths first, whatever they match: the documentation's warning.
		{"use-regex: 'true'", []string{"ImplementationSpecific /foo/bar/bar a", "ImplementationSpecific /foo/bar/[A-Z0-9]{3} b"}, []string{"/foo/bar/bar b"}},
		{"rewrite-target: /$1\nx-forwarded-prefix: /path", []string{"ImplementationSpecific /path/(.*) echo"}, []string{"/path/x /x for P/path"}},
		{"app-root: /app1", []string{"Prefix / echo"}, []string{"/ 302", "/x /x for"}},
		{"upstream-vhost: inner.example.org", []string{"Prefix / echo"}, []string{"/x /x for inner.example.org"}},
		{"permanent-redirect: https://www.example.com", []string{"Prefix / echo"}, []string{"/x 301"}},
		{"temporal-redirect: https://www.example.com", []string{"Prefix / echo"}, []string{"/x 302"}},
		{"permanent-redirect: https://www.example.com\npermanent-redirect-code: '308'", []string{"Prefix / echo"}, []string{"/x 308"}},
		{"whitelist-source-range: '10.0.0.0/8, 192.168.1.1'", []string{"Prefix / echo"}, []string{"/x 403"}},
		{"whitelist-source-range: '192.0.2.0/24'", []string{"Prefix / echo"}, []string{"/x /x for"}},
		{"ssl-redirect: 'false'\nproxy-read-timeout: '3600'", []string{"Prefix / echo"}, []string{"/x /x for"}},
	} {
		host := fmt.Sprintf("rewrite%d.example.org", i)
		m.apply(ingressOf(fmt.Sprint("rewrite", i), host, c.annotations, c.paths...))
		for _, want := range c.wants {
			path, want, _ := strings.Cut(want, " ")
			if strings.Contains(want, " for") {
				uri, rest, _ := strings.Cut(want, " for")
				name, prefix := host, ""
				if rest = strings.TrimSpace(rest); strings.HasPrefix(rest, "P") {
					prefix = rest[1:]
				} else if rest != "" {
					name = rest
				}
				want = uri + " for " + name + " " + prefix + "0"
			}
			m.asks(c.annotations+" "+strings.Join(c.paths, ", "), host, path+" "+want)
		}
	}
}

func TestIngressBodySize(t *testing.T) {
	m := routed(t)
	m.apply(ingressOf("size", "size.example.org", "proxy-body-size: 1k", "Prefix / echo"))
	m.asks("it is there", "size.example.org", "/ / for size.example.org 0")
	for size, want := range map[int]int{1024: 200, 1025: 413} {
		for _, known := range []bool{true, false} {
			r := httptest.NewRequest(http.MethodPost, "http://size.example.org/", strings.NewReader(strings.Repeat("x", size)))
			if !known {
				r.ContentLength = -1
			}
			w := httptest.NewRecorder()
			m.front.ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("%d bytes (length known: %t): %d, want %d", size, known, w.Code, want)
			}
		}
	}
}

// Source: ingress-nginx docs/user-guide/nginx-configuration/annotations.md, "Enable CORS".
func TestIngressCORS(t *testing.T) {
	m := routed(t)
	m.apply(ingressOf("cors", "cors.example.org", "enable-cors: 'true'", "Prefix / echo"))
	m.apply(ingressOf("some", "some.example.org", "enable-cors: 'true'\ncors-allow-origin: 'https://*.origin.com:4443, http://one.com'\ncors-allow-methods: 'PUT, GET'\ncors-allow-credentials: 'false'\ncors-max-age: '600'\ncors-expose-headers: X-A", "Prefix / echo"))
	m.asks("it is there", "cors.example.org", "/ / for cors.example.org 0")
	m.asks("it is there", "some.example.org", "/ / for some.example.org 0")
	ask := func(method, host, origin string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "http://"+host+"/x", nil)
		r.Header.Set("Origin", origin)
		w := httptest.NewRecorder()
		m.front.ServeHTTP(w, r)
		return w
	}
	for _, c := range []struct {
		method, host, origin string
		status               int
		headers              map[string]string
	}{
		{"OPTIONS", "cors.example.org", "http://x.com", 204, map[string]string{"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "true",
			"Access-Control-Allow-Methods": "GET, PUT, POST, DELETE, PATCH, OPTIONS", "Access-Control-Max-Age": "1728000"}},
		{"GET", "cors.example.org", "http://x.com", 200, map[string]string{"Access-Control-Allow-Origin": "*"}},
		{"OPTIONS", "some.example.org", "https://a.origin.com:4443", 204, map[string]string{"Access-Control-Allow-Origin": "https://a.origin.com:4443", "Access-Control-Allow-Methods": "PUT, GET",
			"Access-Control-Allow-Credentials": "", "Access-Control-Max-Age": "600", "Access-Control-Expose-Headers": "X-A"}},
		{"GET", "some.example.org", "http://one.com", 200, map[string]string{"Access-Control-Allow-Origin": "http://one.com"}},
		{"GET", "some.example.org", "https://evil.com", 200, map[string]string{"Access-Control-Allow-Origin": ""}},
		{"GET", "some.example.org", "https://a.b.origin.com:4443", 200, map[string]string{"Access-Control-Allow-Origin": ""}},
		{"GET", "some.example.org", "https://evilorigin.com:4443", 200, map[string]string{"Access-Control-Allow-Origin": ""}},
	} {
		w := ask(c.method, c.host, c.origin)
		if w.Code != c.status {
			t.Errorf("%s %s from %s: %d, want %d", c.method, c.host, c.origin, w.Code, c.status)
		}
		for name, want := range c.headers {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s %s from %s: %s is %q, want %q", c.method, c.host, c.origin, name, got, want)
			}
		}
	}
}

// What protects, or runs code, is refused by its name; what changes nothing that is seen is noted.
func TestIngressAnnotations(t *testing.T) {
	m := newMachine(t)
	for _, c := range []struct{ annotation, want string }{
		{"nginx.ingress.kubernetes.io/auth-type: basic", "refused"},
		{"nginx.ingress.kubernetes.io/auth-url: 'https://x'", "refused"},
		{"nginx.ingress.kubernetes.io/auth-tls-secret: a/b", "refused"},
		{"nginx.ingress.kubernetes.io/configuration-snippet: 'deny all;'", "refused"},
		{"nginx.ingress.kubernetes.io/server-snippet: 'x'", "refused"},
		{"nginx.ingress.kubernetes.io/canary: 'true'", "refused"},
		{"nginx.ingress.kubernetes.io/canary: 'false'", ""},
		{"nginx.ingress.kubernetes.io/canary-weight: '10'", "refused"},
		{"nginx.ingress.kubernetes.io/limit-rps: '5'", "refused"},
		{"nginx.ingress.kubernetes.io/denylist-source-range: 10.0.0.0/8", "refused"},
		{"nginx.ingress.kubernetes.io/custom-headers: a/b", "refused"},
		{"nginx.ingress.kubernetes.io/server-alias: other.example.org", "refused"},
		{"nginx.ingress.kubernetes.io/ssl-passthrough: 'true'", "refused"},
		{"nginx.ingress.kubernetes.io/ssl-passthrough: 'false'", ""},
		{"nginx.ingress.kubernetes.io/enable-modsecurity: 'true'", "refused"},
		{"nginx.ingress.kubernetes.io/of-tomorrow: x", "refused"},
		{"nginx.ingress.kubernetes.io/backend-protocol: FCGI", "refused"},
		{"nginx.ingress.kubernetes.io/backend-protocol: GRPC", ""},
		{"nginx.ingress.kubernetes.io/backend-protocol: https", ""},
		{"nginx.ingress.kubernetes.io/proxy-body-size: 8m", ""},
		{"nginx.ingress.kubernetes.io/proxy-body-size: '0'", ""},
		{"nginx.ingress.kubernetes.io/proxy-body-size: lots", "refused"},
		{"nginx.ingress.kubernetes.io/use-regex: maybe", "refused"},
		{"nginx.ingress.kubernetes.io/whitelist-source-range: everywhere", "refused"},
		{"nginx.ingress.kubernetes.io/permanent-redirect: 'javascript:alert(1)'", "refused"},
		{"nginx.ingress.kubernetes.io/permanent-redirect-code: '200'", "refused"},
		{"nginx.ingress.kubernetes.io/proxy-read-timeout: '60'", "noted"},
		{"nginx.ingress.kubernetes.io/proxy-buffering: 'off'", "noted"},
		{"traefik.ingress.kubernetes.io/router.entrypoints: websecure", "noted"},
		{"traefik.ingress.kubernetes.io/router.middlewares: default-auth@kubernetescrd", "refused"},
		{"cert-manager.io/cluster-issuer: letsencrypt", "noted"},
		{"kubernetes.io/ingress.class: nginx", ""},
		{"example.org/anything: x", ""},
	} {
		text := strings.Replace(ingressOf("x", "x.example.org", "", "Prefix / a"), "annotations: {}", "annotations: {"+c.annotation+"}", 1)
		problems, err := m.Check(t.Context(), []*unstructured.Unstructured{ingressObject(t, text)}, deploy.ApplyOptions{Application: "default/app"})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		name, _, _ := strings.Cut(c.annotation, ":")
		for _, p := range problems {
			if strings.Contains(p.Message, name) {
				if got = "noted"; p.Fatal {
					got = "refused"
				}
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q (%v)", c.annotation, got, c.want, problems)
		}
	}
}

// What a merge request may write to make the proxy work: expressions that grow, paths without end.
func TestIngressBounds(t *testing.T) {
	m := newMachine(t)
	many := make([]string, 0, 1001)
	for i := range 1001 {
		many = append(many, fmt.Sprintf("Prefix /%d a", i))
	}
	for what, text := range map[string]string{
		"no expression":            ingressOf("x", "x.example.org", "use-regex: 'true'", "ImplementationSpecific /a( a"),
		"an expression that grows": ingressOf("x", "x.example.org", "use-regex: 'true'", "ImplementationSpecific /(((a{10}){10}){10}b{900}){1} a"),
		"a long expression":        ingressOf("x", "x.example.org", "use-regex: 'true'", "ImplementationSpecific /"+strings.Repeat("a", 3000)+" a"),
		"many paths":               ingressOf("x", "x.example.org", "", many...),
		"what PCRE alone has":      ingressOf("x", "x.example.org", "use-regex: 'true'", "ImplementationSpecific /(?!api) a"),
	} {
		problems, err := m.Check(t.Context(), []*unstructured.Unstructured{ingressObject(t, text)}, deploy.ApplyOptions{Application: "default/app"})
		if err != nil {
			t.Fatal(err)
		}
		if len(problems) == 0 || !problems[0].Fatal {
			t.Errorf("%s is taken: %v", what, problems)
		}
	}
}

// An Application that asks for more than its share of the table has what fits of it, and takes nothing away from others.
func TestIngressShares(t *testing.T) {
	m := routed(t)
	expressions := func(name string, n int) string {
		list := make([]string, 0, n)
		for i := range n {
			list = append(list, fmt.Sprintf("ImplementationSpecific /%d/.* a", i))
		}
		return ingressOf(name, name+".example.org", "use-regex: 'true'", list...)
	}
	m.apply(expressions("most", 90))
	m.asks("its share", "most.example.org", "/7/x a")
	m.apply(expressions("more", 1))
	m.await("it is said", func() bool {
		return strings.Contains(m.Trouble(), "more than") && strings.Contains(m.Trouble(), "default/app")
	})
	m.asks("beyond its share", "more.example.org", "/0/x 421")
	m.asks("what was there", "most.example.org", "/7/x a")
	o := ingressObject(t, expressions("other", 1))
	if _, err := m.Apply(t.Context(), o, deploy.ApplyOptions{Application: "default/other"}); err != nil {
		t.Fatal(err)
	}
	m.asks("another application", "other.example.org", "/0/x a")
	if err := m.Delete(t.Context(), deploy.Key{Group: "networking.k8s.io", Kind: "Ingress", Namespace: "prod", Name: "most"}, deploy.ApplyOptions{Application: "default/app"}); err != nil {
		t.Fatal(err)
	}
	m.asks("there is room again", "more.example.org", "/0/x a")
}
