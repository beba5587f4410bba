package local

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tiphys/tiphys/deploy"
)

// backend is a pod as the proxies see it.
type backend struct {
	pod    string // its name
	uses   atomic.Int64
	mu     sync.Mutex
	idle   chan struct{}       // closed when uses is 0 while somebody waits
	conns  map[*forwarded]bool // of the TCP proxies
	leaves atomic.Bool
}

// take counts a use. It fails when the pod is leaving: asked after the count, so that drained cannot miss it.
func (b *backend) take() bool {
	b.uses.Add(1)
	if b.leaves.Load() {
		b.give()
		return false
	}
	return true
}

func (b *backend) give() {
	if b.uses.Add(-1) == 0 {
		b.mu.Lock()
		if b.idle != nil {
			close(b.idle)
			b.idle = nil
		}
		b.mu.Unlock()
	}
}

// drained waits until no request is under way. Connections of the TCP proxies that are between two requests are
// closed, because nobody can see whether another would follow.
func (b *backend) drained(ctx context.Context) {
	b.leaves.Store(true)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for b.uses.Load() > 0 {
		b.mu.Lock()
		if b.idle == nil {
			b.idle = make(chan struct{})
		}
		idle := b.idle
		for f := range b.conns {
			if f.betweenRequests() {
				f.close()
			}
		}
		b.mu.Unlock()
		if b.uses.Load() == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-idle:
		case <-tick.C:
		}
	}
}

// endpoint is one place to send a request to.
type endpoint struct {
	address string
	backend *backend
}

// service is a Service's virtual address and its ports.
type service struct {
	key     deploy.Key
	spec    *corev1.Service
	address netip.Addr // invalid if headless
	ports   map[int32]*port
	log     func(msg string, args ...any)
}

// port forwards the connections of one port.
type port struct {
	listener  net.Listener
	endpoints atomic.Pointer[[]endpoint]
	next      atomic.Uint64
}

// names a Service is reached by; the short one only within its namespace.
func (s *service) names(short bool) []string {
	n, ns := s.key.Name, s.key.Namespace
	list := []string{n + "." + ns, n + "." + ns + ".svc", n + "." + ns + ".svc.cluster.local"}
	if short {
		return append([]string{n}, list...)
	}
	return list
}

func (s *service) close() {
	for _, p := range s.ports {
		if p.listener != nil {
			_ = p.listener.Close()
		}
	}
}

// publish brings the proxies in line with the objects: addresses, endpoints, routes, names. t.mu is held.
func (t *Target) publish() {
	for _, p := range t.pods {
		if t.backends[p.UID] == nil {
			t.backends[p.UID] = &backend{pod: p.Key.Name, conns: map[*forwarded]bool{}}
		}
	}
	for key, s := range t.services {
		if o := t.objects[key]; o == nil || o.deleting() {
			s.close()
			if s.address.IsValid() {
				if err := t.o.Addresses.Remove(s.address); err != nil {
					t.o.Log.Warn("service address could not be removed", "service", key.String(), "error", err)
				}
			}
			delete(t.services, key)
		}
	}
	hosts := map[string][]string{}
	for _, o := range t.ofKind("Service") {
		if !o.deleting() {
			t.service(o, hosts)
		}
	}
	if t.o.Names != nil && (t.hosts == nil || !reflect.DeepEqual(t.hosts, hosts)) {
		if err := t.o.Names.SetHosts(hosts); err != nil {
			t.o.Log.Warn("names of services could not be given to pods", "error", err)
		}
		t.hosts = hosts
	}
	t.proxy.set(t.routes())
}

// service sets one Service up and gives it its endpoints.
func (t *Target) service(o *object, hosts map[string][]string) {
	s := t.services[o.Key]
	if s == nil {
		s = &service{key: o.Key, ports: map[int32]*port{}, log: t.o.Log.Warn}
	}
	s.spec = typedOf[corev1.Service](o)
	headless := s.spec.Spec.ClusterIP == corev1.ClusterIPNone
	if !headless && !t.address(o, s) {
		return
	}
	t.services[o.Key] = s
	status := map[string]any{"loadBalancer": map[string]any{}}
	if s.spec.Spec.Type == corev1.ServiceTypeLoadBalancer {
		status["loadBalancer"] = map[string]any{"ingress": []corev1.LoadBalancerIngress{{IP: s.address.String()}}}
	}
	t.setStatus(o, status, o.last)
	wanted := map[int32]bool{}
	var ips []string
	for _, p := range t.selected(s.spec, o.Key.Namespace) {
		ips = append(ips, p.ip)
	}
	for _, sp := range s.spec.Spec.Ports {
		wanted[sp.Port] = true
		if s.ports[sp.Port] == nil {
			s.ports[sp.Port] = &port{}
		}
		p := s.ports[sp.Port]
		list := t.endpoints(s.spec, o.Key.Namespace, sp)
		p.endpoints.Store(&list)
		if !headless && p.listener == nil {
			t.listen(s, p, sp.Port)
		}
	}
	for number, p := range s.ports {
		if !wanted[number] {
			if p.listener != nil {
				_ = p.listener.Close()
			}
			delete(s.ports, number)
		}
	}
	if !headless {
		ips = []string{s.address.String()}
	}
	for _, ip := range ips {
		hosts[ip] = append(hosts[ip], s.names(false)...)
	}
}

// address gives a Service its virtual address once and for good: it is in the object.
func (t *Target) address(o *object, s *service) bool {
	if s.address.IsValid() {
		return true
	}
	notes := o.live.GetAnnotations()
	text := notes[addressAnnotation]
	a, err := netip.ParseAddr(text)
	if err != nil || !t.o.Addresses.Range().Contains(a) {
		if a, err = t.freeAddress(); err != nil {
			t.o.Log.Error("service has no address", "service", o.Key.String(), "error", err)
			return false
		}
		if notes == nil {
			notes = map[string]string{}
		}
		notes[addressAnnotation] = a.String()
		o.live.SetAnnotations(notes)
		if !t.log(change{kind: deploy.KindObjectChanged, o: o, cause: o.last}) {
			return false
		}
		s.spec = typedOf[corev1.Service](o)
	}
	if err := t.o.Addresses.Add(a); err != nil {
		t.o.Log.Error("service address could not be had; trying again", "service", o.Key.String(), "error", err)
		t.at(t.o.Now().Add(5 * time.Second))
		return false
	}
	s.address = a
	return true
}

// addressAnnotation keeps a Service's address.
const addressAnnotation = notePrefix + "address"

func (t *Target) freeAddress() (netip.Addr, error) {
	used := map[string]bool{}
	for _, o := range t.ofKind("Service") {
		used[o.live.GetAnnotations()[addressAnnotation]] = true
	}
	prefix := t.o.Addresses.Range()
	for a := prefix.Masked().Addr().Next().Next(); prefix.Contains(a); a = a.Next() {
		if !used[a.String()] {
			return a, nil
		}
	}
	return netip.Addr{}, errors.New("every address is in use; choose a larger range")
}

// selected are the ready pods of a Service, by name.
func (t *Target) selected(s *corev1.Service, namespace string) []*pod {
	if len(s.Spec.Selector) == 0 {
		return nil
	}
	selector := labels.SelectorFromSet(s.Spec.Selector)
	var found []*pod
	for _, p := range t.pods {
		ready := p.ready() || (s.Spec.PublishNotReadyAddresses && p.running && !p.deleting())
		if p.Key.Namespace == namespace && ready && p.ip != "" && selector.Matches(labels.Set(p.live.GetLabels())) {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b *pod) int { return a.Created.Compare(b.Created) })
	return found
}

func (t *Target) endpoints(s *corev1.Service, namespace string, sp corev1.ServicePort) []endpoint {
	var list []endpoint
	for _, p := range t.selected(s, namespace) {
		number := int(sp.Port)
		if sp.TargetPort.String() != "" && sp.TargetPort.String() != "0" {
			var ports []corev1.ContainerPort
			for _, c := range p.spec().Spec.Containers {
				ports = append(ports, c.Ports...)
			}
			var err error
			if number, err = portOf(ports, sp.TargetPort); err != nil {
				continue
			}
		}
		list = append(list, endpoint{address: net.JoinHostPort(p.ip, strconv.Itoa(number)), backend: t.backends[p.UID]})
	}
	return list
}

func (t *Target) listen(s *service, p *port, number int32) {
	address := net.JoinHostPort(s.address.String(), strconv.Itoa(int(number)))
	var config net.ListenConfig
	l, err := config.Listen(t.ctx, "tcp", address)
	if err != nil {
		t.o.Log.Error("service port could not be opened; trying again", "service", s.key.String(), "error", err)
		t.at(t.o.Now().Add(5 * time.Second))
		return
	}
	p.listener = l
	t.spawn(func(ctx context.Context) {
		var open sync.WaitGroup
		defer open.Wait()
		for {
			conn, err := l.Accept()
			if err != nil {
				return // The listener was closed.
			}
			open.Add(1)
			go func() {
				defer open.Done()
				p.forward(ctx, conn, s.log)
			}()
		}
	})
}

// forwarded is one connection through a Service.
type forwarded struct {
	client, server net.Conn
	// last is when bytes last went by, in Unix nanoseconds; answering says that they came from the server.
	last      atomic.Int64
	answering atomic.Bool
}

func (f *forwarded) close() {
	_ = f.client.Close()
	_ = f.server.Close()
}

// betweenRequests guesses: nothing is sent yet, or the server spoke last and then nobody for a while.
func (f *forwarded) betweenRequests() bool {
	return f.answering.Load() && time.Since(time.Unix(0, f.last.Load())) > 300*time.Millisecond
}

// forward carries one connection to a ready pod. A pod that cannot be reached is passed over: nothing was sent yet.
func (p *port) forward(ctx context.Context, client net.Conn, log func(string, ...any)) {
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	deadline := time.Now().Add(5 * time.Second)
	for time.Now().Before(deadline) && ctx.Err() == nil {
		list := *p.endpoints.Load()
		start := p.next.Add(1)
		for i := range uint64(len(list)) {
			if p.through(ctx, client, list[(start+i)%uint64(len(list))]) {
				return
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	log("a connection found no ready pod", "address", client.LocalAddr().String())
}

// through carries the connection to one pod; false if it could not be reached.
func (p *port) through(ctx context.Context, client net.Conn, e endpoint) bool {
	if !e.backend.take() {
		return false
	}
	defer e.backend.give()
	dialer := net.Dialer{Timeout: 2 * time.Second}
	server, err := dialer.DialContext(ctx, "tcp", e.address)
	if err != nil {
		return false
	}
	p.carry(ctx, client, server, e.backend)
	return true
}

func (p *port) carry(ctx context.Context, client, server net.Conn, b *backend) {
	f := &forwarded{client: client, server: server}
	f.last.Store(time.Now().UnixNano())
	f.answering.Store(true)
	b.mu.Lock()
	b.conns[f] = true
	b.mu.Unlock()
	stop := context.AfterFunc(ctx, f.close)
	defer func() {
		stop()
		f.close()
		b.mu.Lock()
		delete(b.conns, f)
		b.mu.Unlock()
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.copy(server, client, false)
	}()
	f.copy(client, server, true)
	<-done
}

// copy moves bytes one way and then says that no more come.
func (f *forwarded) copy(to, from net.Conn, answer bool) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			f.answering.Store(answer)
			f.last.Store(time.Now().UnixNano())
			if _, err := to.Write(buffer[:n]); err != nil {
				f.close()
				return
			}
		}
		if err != nil {
			if half, ok := to.(*net.TCPConn); ok {
				_ = half.CloseWrite()
			}
			return
		}
	}
}
