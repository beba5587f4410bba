package local

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/keeper/front"
)

// service is a Service and its virtual address.
type service struct {
	key     deploy.Key
	spec    *corev1.Service
	address netip.Addr // invalid if headless
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

// publish brings what carries requests in line with the objects: addresses, endpoints, routes, names. t.mu is held.
func (t *Target) publish() {
	for key, s := range t.services {
		if o := t.objects.byKey[key]; o == nil || o.deleting() {
			if s.address.IsValid() {
				t.addresses[s.address] = key
			}
			delete(t.services, key)
		}
	}
	for address, key := range t.addresses {
		what := "remove the address of Service " + key.String()
		if err := t.o.Addresses.Remove(address); err != nil {
			t.again(what, err, networkRetry)
			continue
		}
		delete(t.addresses, address)
		t.troubles.Over(what)
	}
	hosts := map[string][]string{}
	for _, o := range t.ofKind("Service") {
		if !o.deleting() {
			t.service(o, hosts)
		}
	}
	if t.o.Names != nil && (t.hosts == nil || !reflect.DeepEqual(t.hosts, hosts)) {
		const what = "give the names of Services to pods"
		if err := t.o.Names.SetHosts(hosts); err != nil {
			t.again(what, err, networkRetry)
		} else {
			t.hosts = hosts
			t.troubles.Over(what)
		}
	}
	const what = "say what goes where (requests go where they went before)"
	table := front.Table{Callers: t.o.Callers}
	ration := newRation()
	table.Hosts, table.Certificates = t.routes(ration)
	table.Ports = t.ports(ration)
	if err := t.o.Front.Set(table); err != nil {
		t.again(what, err, networkRetry)
	} else {
		t.troubles.Over(what)
	}
}

// networkRetry is the wait before something of the network that failed is tried again.
const networkRetry = 5 * time.Second

// service sets one Service up and gives it its endpoints.
func (t *Target) service(o *object, hosts map[string][]string) {
	s := t.addressed(o)
	if s == nil {
		return
	}
	headless := !s.address.IsValid()
	status := map[string]any{"loadBalancer": map[string]any{}}
	if s.spec.Spec.Type == corev1.ServiceTypeLoadBalancer {
		status["loadBalancer"] = map[string]any{"ingress": []corev1.LoadBalancerIngress{{IP: s.address.String()}}}
	}
	t.setStatus(o, status, o.last)
	var ips []string
	for _, p := range t.selected(s.spec, o.Key.Namespace) {
		ips = append(ips, p.ip)
		if headless {
			hosts[p.ip] = append(hosts[p.ip], p.names(o.Key.Name)...)
		}
	}
	if !headless {
		ips = []string{s.address.String()}
	}
	for _, ip := range ips {
		hosts[ip] = append(hosts[ip], s.names(false)...)
	}
}

// names are those of a pod that a headless Service gives it: its hostname below the Service's, if it names the Service as its subdomain.
func (p *pod) names(service string) []string {
	spec := p.spec().Spec
	if spec.Subdomain != service || len(validation.IsDNS1123Label(spec.Hostname)) > 0 {
		return nil
	}
	name := spec.Hostname + "." + service + "." + p.Key.Namespace
	return []string{name, name + ".svc", name + ".svc.cluster.local"}
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
			t.again("give an address to "+o.Key.String(), err, networkRetry)
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
		t.again("give an address to "+o.Key.String(), err, networkRetry)
		return false
	}
	t.troubles.Over("give an address to " + o.Key.String())
	delete(t.addresses, a)
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
	slices.SortFunc(found, func(a, b *pod) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Key.Name, b.Key.Name)) })
	return found
}

// endpoints are where the ready pods behind a port of a Service are reached.
func (t *Target) endpoints(s *corev1.Service, namespace string, sp corev1.ServicePort) []front.Endpoint {
	return t.endpointsFor(s, namespace, sp, func(*pod, int) bool { return true })
}

// endpointsFor are those of the endpoints that somebody is let to.
func (t *Target) endpointsFor(s *corev1.Service, namespace string, sp corev1.ServicePort, lets func(*pod, int) bool) []front.Endpoint {
	var list []front.Endpoint
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
		if !lets(p, number) {
			continue
		}
		list = append(list, front.Endpoint{Address: net.JoinHostPort(p.ip, strconv.Itoa(number)), Backend: p.UID})
	}
	return list
}

// ports are the virtual addresses of the Services; t.mu is held.
func (t *Target) ports(b *ration) []front.Port {
	var list []front.Port
	for _, o := range byAge(t.ofKind("Service")) {
		s := t.services[o.Key]
		if s == nil || !s.address.IsValid() || o.deleting() {
			continue
		}
		var made []front.Port
		more := amount{}
		for _, sp := range s.spec.Spec.Ports {
			p := front.Port{
				Address: net.JoinHostPort(s.address.String(), strconv.Itoa(int(sp.Port))), Sticky: s.spec.Spec.SessionAffinity == corev1.ServiceAffinityClientIP,
				Endpoints: t.endpoints(s.spec, s.key.Namespace, sp),
			}
			if protocol(sp) == corev1.ProtocolUDP {
				p.Protocol = front.UDP
			}
			made = append(made, p)
			more = more.plus(amount{ports: 1, bytes: endpointBytes * (1 + len(p.Endpoints))})
		}
		err := b.count(o.Application, more)
		if t.served(o, err); err == nil {
			list = append(list, made...)
		}
	}
	slices.SortFunc(list, func(a, b front.Port) int {
		return cmp.Or(strings.Compare(a.Address, b.Address), strings.Compare(a.Protocol, b.Protocol))
	})
	return list
}

// byAge has the older objects first.
func byAge(list []*object) []*object {
	slices.SortStableFunc(list, func(x, y *object) int { return x.Created.Compare(y.Created) })
	return list
}
