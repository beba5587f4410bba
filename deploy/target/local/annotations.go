package local

import (
	"cmp"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/tiphys/tiphys/keeper/front"
)

// asks is what the annotations of an Ingress ask for, those of ingress-nginx. Sources: its docs/user-guide/nginx-configuration/annotations.md.
type asks struct {
	// expression says that the paths are regular expressions; rewrite is what they become.
	expression bool
	rewrite    string
	manner     *front.Manner
	tls, http2 bool
	// redirects says whether requests without TLS are sent to where there is TLS, if somebody says; forced, that hosts without tls have it, too.
	redirects *bool
	forced    bool
}

// rewriting is the manner of a path that is rewritten.
func (a asks) rewriting() *front.Manner {
	m := front.Manner{}
	if a.manner != nil {
		m = *a.manner
	}
	m.Rewrite = a.rewrite
	return &m
}

const nginxPrefix = "nginx.ingress.kubernetes.io/"

// harmless are the annotations of ingress-nginx that tune nginx, and change nothing for who asks or answers.
func harmless() []string {
	return []string{
		"proxy-connect-timeout", "proxy-read-timeout", "proxy-send-timeout", "proxy-buffering", "proxy-request-buffering", "proxy-buffer-size", "proxy-buffers-number",
		"proxy-busy-buffers-size", "proxy-max-temp-file-size", "proxy-http-version", "proxy-next-upstream", "proxy-next-upstream-timeout", "proxy-next-upstream-tries",
		"client-body-buffer-size", "connection-proxy-header", "enable-access-log", "enable-rewrite-log", "http2-push-preload", "load-balance", "service-upstream",
		"preserve-trailing-slash", "enable-opentracing", "opentracing-trust-incoming-span", "enable-opentelemetry", "opentelemetry-trust-incoming-span",
		"opentelemetry-operation-name", "enable-influxdb", "affinity-canary-behavior", "session-cookie-conditional-samesite-none",
	}
}

// others says of annotations of other controllers whether they are without effect here (false), or refused since they may protect (true).
func others(name string) (refused, known bool) {
	switch {
	case name == "traefik.ingress.kubernetes.io/router.middlewares", name == "traefik.ingress.kubernetes.io/router.tls.options":
		return true, true
	case strings.HasPrefix(name, "traefik.ingress.kubernetes.io/"), strings.HasPrefix(name, "cert-manager.io/"), strings.HasPrefix(name, "acme.cert-manager.io/"),
		strings.HasPrefix(name, "external-dns.alpha.kubernetes.io/"), strings.HasPrefix(name, "alb.ingress.kubernetes.io/"), strings.HasPrefix(name, "haproxy.org/"),
		strings.HasPrefix(name, "haproxy-ingress.github.io/"), name == "kubernetes.io/tls-acme":
		return false, true
	}
	return false, false
}

// asksOf reads annotations; say is told what is refused (fatal) and what has no effect.
func asksOf(annotations map[string]string, say func(fatal bool, path, format string, args ...any)) asks {
	r := &reading{values: map[string]string{}, say: say, m: &front.Manner{}}
	var names []string
	for name, value := range annotations {
		if short, ok := strings.CutPrefix(name, nginxPrefix); ok {
			r.values[short] = value
			names = append(names, short)
		} else if refused, known := others(name); refused {
			say(true, "metadata.annotations", "%s is not served here, and may protect: remove it", name)
		} else if known {
			say(false, "metadata.annotations", "%s has no effect here", name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		r.one(name, r.values[name])
	}
	r.redirection()
	r.cors()
	r.cookie()
	if !isZero(r.m) {
		r.asks.manner = r.m
	}
	return r.asks
}

func isZero(m *front.Manner) bool {
	return m.Rewrite == "" && m.AppRoot == "" && m.Redirect == "" && m.Encrypted == "" && m.MaxBody == 0 && m.Host == "" && m.Prefix == "" && m.Clients == nil && m.CORS == nil && m.Cookie == nil
}

// reading is annotations on their way to what they ask for.
type reading struct {
	values map[string]string
	say    func(fatal bool, path, format string, args ...any)
	m      *front.Manner
	asks   asks
}

func (r *reading) refuse(name, format string, args ...any) {
	r.say(true, "metadata.annotations", "%s%s: %s", nginxPrefix, name, fmt.Sprintf(format, args...))
}

// one reads one annotation; those that are several together are read afterwards.
func (r *reading) one(name, value string) {
	switch name {
	case "use-regex":
		r.asks.expression = r.truth(name)
	case "rewrite-target":
		r.asks.rewrite = r.target(name, value)
	case "app-root":
		if r.m.AppRoot = value; !strings.HasPrefix(value, "/") || strings.HasPrefix(value, "//") {
			r.refuse(name, "%q is no path", value)
		}
	case "x-forwarded-prefix":
		r.m.Prefix = value
	case "upstream-vhost":
		if r.m.Host = value; strings.ContainsAny(value, "$/ ") {
			r.refuse(name, "%q is no host name", value)
		}
	case "proxy-body-size":
		r.m.MaxBody = r.size(name, value)
	case "whitelist-source-range", "allowlist-source-range":
		r.m.Clients = append(r.m.Clients, r.networks(name, value)...)
	case "backend-protocol":
		r.protocol(name, value)
	case "ssl-redirect":
		is := r.truth(name)
		r.asks.redirects = &is
	case "force-ssl-redirect":
		r.asks.forced = r.truth(name)
	case "permanent-redirect", "permanent-redirect-code", "temporal-redirect", "temporal-redirect-code":
	case "enable-cors", "cors-allow-origin", "cors-allow-methods", "cors-allow-headers", "cors-expose-headers", "cors-allow-credentials", "cors-max-age":
	case "affinity", "affinity-mode", "session-cookie-name", "session-cookie-path", "session-cookie-max-age", "session-cookie-expires", "session-cookie-samesite",
		"session-cookie-secure", "session-cookie-change-on-failure":
	case "canary", "ssl-passthrough", "enable-modsecurity", "enable-owasp-core-rules", "enable-global-auth", "from-to-www-redirect", "proxy-ssl-verify", "proxy-ssl-server-name":
		if value != "false" && value != "off" {
			r.unserved(name)
		}
	default:
		if slices.Contains(harmless(), name) {
			r.say(false, "metadata.annotations", "%s%s has no effect here", nginxPrefix, name)
			return
		}
		r.unserved(name)
	}
}

func (r *reading) unserved(name string) {
	switch {
	case strings.HasSuffix(name, "-snippet"):
		r.refuse(name, "code for nginx is not run here: say it by other annotations, or in the application")
	case strings.HasPrefix(name, "auth-"), name == "satisfy", name == "enable-global-auth":
		r.refuse(name, "who may ask is not judged here: let the application do it, or a proxy of its own")
	default:
		r.refuse(name, "not served here: remove it, if the application can do without")
	}
}

func (r *reading) truth(name string) bool {
	value, err := strconv.ParseBool(r.values[name])
	if err != nil {
		r.refuse(name, "%q is neither true nor false", r.values[name])
	}
	return value
}

func (r *reading) target(name, value string) string {
	if _, other := front.Groups(value); other {
		r.refuse(name, "%q has a variable that is not there: $1 to $9 are the groups of the path", value)
	}
	if !strings.HasPrefix(value, "/") && !strings.HasPrefix(value, "$") {
		r.refuse(name, "%q is no path: it must begin with / or with a group", value)
	}
	if len(value) > maxAnnotation {
		r.refuse(name, "it has %d bytes; at most %d are taken", len(value), maxAnnotation)
	}
	return value
}

// maxAnnotation bounds what goes to the front of one annotation, in bytes.
const maxAnnotation = 1024

// size is a number of bytes as nginx writes it.
func (r *reading) size(name, value string) int64 {
	digits, unit := strings.TrimSpace(strings.ToLower(value)), int64(1)
	for suffix, bytes := range map[string]int64{"k": 1 << 10, "m": 1 << 20, "g": 1 << 30} {
		if rest, ok := strings.CutSuffix(digits, suffix); ok {
			digits, unit = rest, bytes
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/2/unit {
		r.refuse(name, "%q is no size such as 8m; 0 is no bound", value)
		return 0
	}
	return n * unit
}

func (r *reading) networks(name, value string) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range strings.Split(value, ",") {
		text = strings.TrimSpace(text)
		p, err := netip.ParsePrefix(text)
		if a, single := netip.ParseAddr(text); err != nil && single == nil {
			p, err = a.Prefix(a.BitLen())
		}
		if err != nil {
			r.refuse(name, "%q is no network such as 10.0.0.0/8", text)
			return nil
		}
		list = append(list, p.Masked())
	}
	if len(list) > maxNetworks {
		r.refuse(name, "it has %d networks; at most %d are taken", len(list), maxNetworks)
	}
	return list
}

const maxNetworks = 100

func (r *reading) protocol(name, value string) {
	switch strings.ToUpper(value) {
	case "HTTP", "AUTO_HTTP":
	case "HTTPS":
		r.asks.tls = true
	case "GRPC":
		r.asks.http2 = true
	case "GRPCS":
		r.asks.tls, r.asks.http2 = true, true
	default:
		r.refuse(name, "%q is not spoken here: HTTP, HTTPS, GRPC and GRPCS are", value)
	}
}

func (r *reading) redirection() {
	for _, way := range []struct {
		name string
		code int
	}{{"permanent-redirect", http.StatusMovedPermanently}, {"temporal-redirect", http.StatusFound}} {
		code := way.code
		if text, there := r.values[way.name+"-code"]; there {
			n, err := strconv.Atoi(text)
			if err != nil || !front.Redirectable(n) {
				r.refuse(way.name+"-code", "%q does not send a client elsewhere", text)
			}
			code = n
		}
		value, there := r.values[way.name]
		if !there {
			continue
		}
		known := strings.NewReplacer("$request_uri", "", "$host", "host", "$scheme", "https").Replace(value)
		u, err := url.Parse(known)
		if err != nil || strings.Contains(known, "$") || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || len(value) > maxAnnotation {
			r.refuse(way.name, "%.200q is no address: it must begin with http:// or https://, and of nginx's variables only $request_uri, $host and $scheme are known", value)
			continue
		}
		r.m.Redirect, r.m.Code = value, code
	}
}

func (r *reading) cors() {
	if _, there := r.values["enable-cors"]; !there || !r.truth("enable-cors") {
		return
	}
	c := &front.CORS{Credentials: true, MaxAge: 1728000, Methods: "GET, PUT, POST, DELETE, PATCH, OPTIONS", Origins: []string{"*"},
		Headers: "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization"}
	if text, there := r.values["cors-allow-origin"]; there {
		c.Origins = nil
		for _, origin := range strings.Split(text, ",") {
			if origin = strings.TrimSpace(origin); origin != "" {
				c.Origins = append(c.Origins, origin)
			}
		}
		if len(c.Origins) == 0 || slices.ContainsFunc(c.Origins, func(o string) bool { return !isOrigin(o) }) {
			r.refuse("cors-allow-origin", "%.200q are no origins such as https://*.example.org:4443", text)
		}
	}
	for name, to := range map[string]*string{"cors-allow-methods": &c.Methods, "cors-allow-headers": &c.Headers, "cors-expose-headers": &c.Expose} {
		if text, there := r.values[name]; there {
			if *to = text; strings.ContainsFunc(text, notInLists) || len(text) > maxAnnotation {
				r.refuse(name, "%.200q is no list of names", text)
			}
		}
	}
	if _, there := r.values["cors-allow-credentials"]; there {
		c.Credentials = r.truth("cors-allow-credentials")
	}
	if text, there := r.values["cors-max-age"]; there {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			r.refuse("cors-max-age", "%q is no number of seconds", text)
		}
		c.MaxAge = n
	}
	r.m.CORS = c
}

// isOrigin tells whether an origin of a list can be one: "*", "https://example.org:8443", "https://*.example.org".
func isOrigin(text string) bool {
	if text == "*" {
		return true
	}
	u, err := url.Parse(strings.Replace(text, "://*.", "://any.", 1))
	return err == nil && u.Scheme != "" && u.Host != "" && u.Scheme+"://"+u.Host == strings.Replace(text, "://*.", "://any.", 1) && !strings.Contains(u.Host, "*")
}

// notInLists tells characters that the names of methods and headers do not have, nor what is between them.
func notInLists(c rune) bool {
	return !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-*, ", c)
}

func (r *reading) cookie() {
	value, there := r.values["affinity"]
	if !there {
		return
	}
	if value != "cookie" {
		r.refuse("affinity", "%q is not known; cookie is", value)
		return
	}
	c := &front.Cookie{Name: cmp.Or(r.values["session-cookie-name"], "INGRESSCOOKIE"), Path: cmp.Or(r.values["session-cookie-path"], "/")}
	if _, there := r.values["session-cookie-secure"]; there {
		c.Secure = r.truth("session-cookie-secure")
	}
	if _, there := r.values["session-cookie-change-on-failure"]; there {
		c.Anew = r.truth("session-cookie-change-on-failure")
	}
	for _, name := range []string{"session-cookie-expires", "session-cookie-max-age"} { // the second counts
		if text, there := r.values[name]; there {
			n, err := strconv.Atoi(text)
			if err != nil || n < 0 {
				r.refuse(name, "%q is no number of seconds", text)
			}
			c.MaxAge = n
		}
	}
	switch text := r.values["session-cookie-samesite"]; text {
	case "":
	case "Lax":
		c.SameSite = http.SameSiteLaxMode
	case "Strict":
		c.SameSite = http.SameSiteStrictMode
	case "None":
		c.SameSite = http.SameSiteNoneMode
	default:
		r.refuse("session-cookie-samesite", "%q is none of Lax, Strict and None", text)
	}
	if err := (&http.Cookie{Name: c.Name, Value: "x", Path: c.Path}).Valid(); err != nil || len(c.Name)+len(c.Path) > maxAnnotation {
		r.refuse("affinity", "the cookie cannot be made: %v", err)
	}
	r.m.Cookie = c
}
