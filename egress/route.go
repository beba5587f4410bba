package egress

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/tiphys/tiphys/secret"
)

// Names of the hidden commands of this program that programs of a [Route] start, and of their variables.
const (
	// SSHCommand stands in for ssh: it sends its connection through the route.
	SSHCommand = "__egress-ssh"
	// ConnectCommand is what ssh starts for that.
	ConnectCommand = "__egress-connect"

	variableProxy = "TIPHYS_EGRESS"
	variableTo    = "TIPHYS_EGRESS_TO"
)

// Route is the way out of one program that resolves names itself. A Route of an unrestricted client leaves the program as it is. Close it when
// the program has ended.
type Route struct {
	field  string
	proxy  *proxy // nil if unrestricted
	name   string
	secret secret.Value
	ctx    context.Context //nolint:containedctx // what goes through the route ends with it
	cancel context.CancelFunc

	mu      sync.Mutex
	refused error
}

// Route returns a way out for a program, with credentials of its own. The field is that of the context ([For]).
func (c *Client) Route(ctx context.Context) (*Route, error) {
	c = c.orStrict()
	r := &Route{field: Field(ctx)}
	r.ctx, r.cancel = context.WithCancel(ctx)
	if c.open {
		return r, nil
	}
	p, err := c.startProxy(ctx)
	if err != nil {
		r.cancel()
		return nil, fmt.Errorf("make a way out for a program: %w", err)
	}
	random := make([]byte, 24)
	_, _ = rand.Read(random) // never fails (crypto/rand)
	r.proxy, r.name, r.secret = p, hex.EncodeToString(random[:8]), secret.New(hex.EncodeToString(random[8:]))
	p.add(r)
	return r, nil
}

// Close ends the route and every connection through it.
func (r *Route) Close() {
	r.cancel()
	if r.proxy != nil {
		r.proxy.remove(r)
	}
}

// Proxy is the HTTP proxy that the program has to use, with credentials; empty for none. It is a secret.
func (r *Route) Proxy() string {
	if r.proxy == nil {
		return ""
	}
	u := url.URL{Scheme: "http", User: url.UserPassword(r.name, r.secret.Reveal()), Host: r.proxy.address()}
	return u.String()
}

// SSH is the program that stands in for ssh, for a shell; Env the variables that it needs.
func (r *Route) SSH() (string, error) {
	if r.proxy == nil {
		return "ssh", nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	return Quote(self) + " " + SSHCommand, nil
}

// Env is what the program's environment needs for SSH.
func (r *Route) Env() []string {
	if r.proxy == nil {
		return nil
	}
	return []string{variableProxy + "=" + r.Proxy(), "GIT_SSH_VARIANT=ssh"}
}

// Explain gives the refusal if that is why a program failed, and the program's own error otherwise.
func (r *Route) Explain(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil || r.refused == nil {
		return err
	}
	return r.refused
}

// note keeps the first refusal.
func (r *Route) note(err error) {
	if _, refused := Refused(err); !refused {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refused == nil {
		r.refused = err
	}
}

// Quote makes one word of a text for a shell, by which git starts its programs.
func Quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
