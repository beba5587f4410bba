package front

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"reflect"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tiphys/tiphys/keeper/clients"
)

// Options of a Front.
type Options struct {
	// Wait is how long a request or connection waits for a ready pod; 5 s if 0.
	Wait time.Duration
	// CallsPerClient bounds the connections that one address has with all Services, this machine's own sixteen times as many; 4096 if 0.
	CallsPerClient int
	Log            *slog.Logger
}

// Front carries requests by a table. It is an [http.Handler] for the hosts; the ports of Services it listens on itself.
type Front struct {
	wait  time.Duration
	log   *slog.Logger
	hosts atomic.Pointer[map[string][]route]
	proof atomic.Pointer[proof]

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu       sync.Mutex
	table    Table
	patterns map[string]*regexp.Regexp
	backends map[string]*backend
	ports    map[string]*port
	flows    map[string]*datagrams
	changed  chan struct{} // closed when the table is replaced
	closed   bool
	released bool
	next     atomic.Uint64
	// callers is that of the table; nil if it has none.
	callers  atomic.Pointer[netip.Prefix]
	nextPort atomic.Uint32

	transports transports
	pool       pool
	large      pool         // for datagrams
	sessions   atomic.Int64 // of datagrams
	crowd      *clients.Crowd
	reverse    *httputil.ReverseProxy
}

// route is a Route with what its endpoints count.
type route struct {
	Route
	endpoints []endpoint
	// pattern is the path of a route that is an expression.
	pattern *regexp.Regexp
}

type endpoint struct {
	address, name string
	backend       *backend
}

// New returns a front that routes nothing yet. End it with Close.
func New(o Options) *Front {
	if o.Wait == 0 {
		o.Wait = 5 * time.Second
	}
	if o.CallsPerClient == 0 {
		o.CallsPerClient = callsPerClient
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	f := &Front{wait: o.Wait, log: o.Log, backends: map[string]*backend{}, ports: map[string]*port{}, flows: map[string]*datagrams{}, large: pool{size: maxDatagram}, crowd: clients.NewCrowd(o.CallsPerClient), changed: make(chan struct{}), transports: newTransports()}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.hosts.Store(&map[string][]route{})
	f.proof.Store(&proof{})
	f.reverse = f.newReverse()
	return f
}

// Set replaces the table. A table that [Table.Check] refuses changes nothing.
func (f *Front) Set(t Table) error {
	if err := t.Check(); err != nil {
		return fmt.Errorf("take routes: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || reflect.DeepEqual(t, f.table) {
		return nil
	}
	patterns, err := f.compile(t)
	if err != nil {
		return fmt.Errorf("take routes: %w", err)
	}
	certificates, err := f.prove(t)
	if err != nil {
		return fmt.Errorf("take routes: %w", err)
	}
	f.table, f.patterns = t, patterns
	f.proof.Store(certificates)
	wanted := map[string]*backend{}
	resolve := func(list []Endpoint) []endpoint {
		found := make([]endpoint, len(list))
		for i, e := range list {
			b := wanted[e.Backend]
			if b == nil {
				if b = f.backends[e.Backend]; b == nil {
					b = &backend{conns: map[carried]bool{}}
				}
				wanted[e.Backend] = b
			}
			found[i] = endpoint{address: e.Address, name: e.Backend, backend: b}
		}
		return found
	}
	hosts := make(map[string][]route, len(t.Hosts))
	for host, list := range t.Hosts {
		for _, r := range list {
			made := route{Route: r, endpoints: resolve(r.Endpoints)}
			if r.Regexp {
				made.pattern = patterns[r.Path]
			}
			hosts[host] = append(hosts[host], made)
		}
		if len(list) == 0 {
			hosts[host] = nil
		}
	}
	var callers *netip.Prefix
	if t.Callers.IsValid() {
		callers = &t.Callers
	}
	f.callers.Store(callers) // at once: a call between two of them would be the machine's own, which no policy judges
	f.setPorts(t.Ports, resolve)
	f.setFlows(t.Ports, resolve)
	for name, b := range f.backends {
		if wanted[name] == nil && b.uses.Load() > 0 {
			wanted[name] = b // somebody may yet ask whether it is drained
		}
	}
	f.backends = wanted
	f.hosts.Store(&hosts)
	close(f.changed)
	f.changed = make(chan struct{})
	return nil
}

// compile gives the patterns of a table by their texts, those that there are already as they are; f.mu is held.
func (f *Front) compile(t Table) (map[string]*regexp.Regexp, error) {
	found := map[string]*regexp.Regexp{}
	for host, list := range t.Hosts {
		for _, r := range list {
			if !r.Regexp || found[r.Path] != nil {
				continue
			}
			pattern := f.patterns[r.Path]
			if pattern == nil {
				var err error
				if pattern, err = Pattern(r.Path); err != nil {
					return nil, fmt.Errorf("host %q: %w", host, err)
				}
			}
			found[r.Path] = pattern
		}
	}
	return found, nil
}

// Table is what was set last.
func (f *Front) Table() Table {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.table
}

// Drained gives a backend nothing more and waits until nothing is under way to it.
func (f *Front) Drained(ctx context.Context, name string) {
	f.mu.Lock()
	b := f.backends[name]
	f.mu.Unlock()
	if b != nil {
		b.drained(ctx)
	}
}

// Release stops listening on the ports of Services and gives the listeners away, by address. What is under way goes on.
func (f *Front) Release() map[string]net.Listener {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.released = true
	given := map[string]net.Listener{}
	for address, d := range f.flows { // the next front has them a moment later
		d.close()
		delete(f.flows, address)
	}
	for address, p := range f.ports {
		if l := p.release(); l != nil {
			given[address] = l
		}
	}
	return given
}

// Adopt takes over listeners that another front released; Set uses those that its table names, and closes the others.
func (f *Front) Adopt(given map[string]net.Listener) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for address, l := range given {
		if f.closed || f.ports[address] != nil {
			_ = l.Close()
			continue
		}
		f.ports[address] = f.newPort(address, l)
	}
}

// Idle reports whether no request to an application is under way.
func (f *Front) Idle() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.backends {
		if b.busy() {
			return false
		}
	}
	return true
}

// Close ends everything, what is under way through a Service too.
func (f *Front) Close() error {
	f.mu.Lock()
	f.closed = true
	var errs []error
	for _, p := range f.ports {
		errs = append(errs, p.close())
	}
	for _, d := range f.flows {
		d.close()
	}
	f.mu.Unlock()
	f.cancel()
	f.work.Wait()
	f.transports.close()
	return errors.Join(errs...)
}

var _ http.Handler = (*Front)(nil)
