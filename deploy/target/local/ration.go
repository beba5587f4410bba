package local

import (
	"fmt"

	"github.com/tiphys/tiphys/keeper/front"
)

// Bounds of what one Application may put into the front's table, and all of them: below those of the table, which is refused as a whole.
const (
	maxPathsOfIngress = 500
	mostRoutes        = 40_000
	mostExpressions   = 900
	mostPorts         = 9000
	mostBytes         = 16 << 20
	// share is how much of all one Application may have: a tenth of it.
	share = 10
)

// amount is what is in a table.
type amount struct{ routes, expressions, ports, bytes int }

func (a amount) plus(b amount) amount {
	return amount{a.routes + b.routes, a.expressions + b.expressions, a.ports + b.ports, a.bytes + b.bytes}
}

func (a amount) beyond(parts int) bool {
	return a.routes > mostRoutes/parts || a.expressions > mostExpressions/parts || a.ports > mostPorts/parts || a.bytes > mostBytes/parts
}

// ration counts what was put into a table.
type ration struct {
	all amount
	of  map[string]amount // by Application
}

func newRation() *ration { return &ration{of: map[string]amount{}} }

// take counts routes, unless they are too many.
func (b *ration) take(application string, routes map[string][]front.Route) error {
	var more amount
	for host, list := range routes {
		for _, r := range list {
			more = more.plus(amountOf(host, r))
		}
	}
	return b.count(application, more)
}

// amountOf is about what a route takes in the table's JSON.
func amountOf(host string, r front.Route) amount {
	a := amount{routes: 1, bytes: 100 + len(host) + len(r.Path) + endpointBytes*len(r.Endpoints)}
	if r.Regexp {
		a.expressions = 1
	}
	if m := r.Manner; m != nil {
		a.bytes += 200 + len(m.Rewrite) + len(m.AppRoot) + len(m.Redirect) + len(m.Host) + len(m.Prefix) + 20*len(m.Clients)
		if c := m.CORS; c != nil {
			a.bytes += 200 + len(c.Methods) + len(c.Headers) + len(c.Expose)
			for _, origin := range c.Origins {
				a.bytes += 10 + len(origin)
			}
		}
	}
	return a
}

const endpointBytes = 100

func (b *ration) count(application string, more amount) error {
	if own := b.of[application].plus(more); own.beyond(share) {
		return fmt.Errorf("the Ingresses and Services of %s have more than %s: it is not served; have fewer", application, limits(share))
	}
	if b.all.plus(more).beyond(1) {
		return fmt.Errorf("this machine's Ingresses and Services have more than %s: it is not served", limits(1))
	}
	b.of[application], b.all = b.of[application].plus(more), b.all.plus(more)
	return nil
}

func limits(parts int) string {
	return fmt.Sprintf("%d paths, %d expressions, %d ports of Services or %d KiB of names and addresses", mostRoutes/parts, mostExpressions/parts, mostPorts/parts, mostBytes/parts>>10)
}
