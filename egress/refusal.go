package egress

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/tiphys/tiphys/failure"
)

// ErrRefused is what every [Refusal] wraps.
var ErrRefused = failure.New(failure.Refused, "the server sends nothing there for a manifest")

// Refusal is an address that a manifest may not have the server reach.
type Refusal struct { //nolint:errname // it is called what it is
	// Field is what the manifest calls it, as [For] said; may be empty.
	Field string
	// Host is the name that was asked for, Address what it is.
	Host    string
	Address netip.AddrPort
	// Words say what is wrong with the address.
	Words string
}

// Error implements error.
func (r *Refusal) Error() string {
	where := ""
	if r.Field != "" {
		where = r.Field + ": "
	}
	name := r.Host
	if a := r.Address.Addr().String(); name != a {
		name += " is " + a + ","
	} else {
		name += " is"
	}
	return fmt.Sprintf("%s%s %s: %v; the server's operator can allow it with %s", where, name, r.Words, ErrRefused, r.Option())
}

// Option is the server's option that would allow the address.
func (r *Refusal) Option() string {
	a := r.Address.Addr().WithZone("").Unmap()
	return "--allow-egress " + Rule{netip.PrefixFrom(a, a.BitLen()), r.Address.Port()}.String()
}

// Unwrap gives the error its kind.
func (r *Refusal) Unwrap() error { return ErrRefused }

// Refused finds the refusal in an error.
func Refused(err error) (*Refusal, bool) {
	var r *Refusal
	ok := errors.As(err, &r)
	return r, ok
}

type fieldKey struct{}

// For says in a context for which field of a manifest something is asked for. A refusal names it.
func For(ctx context.Context, field string) context.Context {
	return context.WithValue(ctx, fieldKey{}, field)
}

// Field is what [For] said; empty if nobody has.
func Field(ctx context.Context) string {
	field, _ := ctx.Value(fieldKey{}).(string)
	return field
}
