package local

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// links are the Services of a pod's namespace, by name, with their addresses: what there is on record when the pod starts, and not what happens to
// have been set up. One without an address yet keeps the pod from starting. t.mu is held.
func (t *Target) links(namespace string) ([]*service, error) {
	var found []*service
	for _, o := range t.ofKind("Service") {
		if o.Key.Namespace != namespace || o.deleting() {
			continue
		}
		s := t.addressed(o)
		if s == nil {
			return nil, fmt.Errorf("service %s has no address yet", o.Key.Name)
		}
		if s.address.IsValid() {
			found = append(found, s)
		}
	}
	return found, nil
}

// addressed gives a Service with its address, unless it is headless; nil if it cannot be had.
func (t *Target) addressed(o *object) *service {
	s := t.services[o.Key]
	if s == nil {
		s = &service{key: o.Key}
	}
	s.spec = typedOf[corev1.Service](o)
	if s.spec.Spec.ClusterIP != corev1.ClusterIPNone && !t.address(o, s) {
		return nil
	}
	t.services[o.Key] = s
	return s
}

// variables are those that a pod is told of a Service by. Sources: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
// and Kubernetes' pkg/kubelet/envvars.
func (s *service) variables(env map[string]string) {
	ports := s.spec.Spec.Ports
	if len(ports) == 0 {
		return
	}
	name, ip := variable(s.key.Name), s.address.String()
	env[name+"_SERVICE_HOST"] = ip
	env[name+"_SERVICE_PORT"] = strconv.Itoa(int(ports[0].Port))
	for _, p := range ports {
		if p.Name != "" {
			env[name+"_SERVICE_PORT_"+variable(p.Name)] = strconv.Itoa(int(p.Port))
		}
	}
	for i, p := range ports {
		number := strconv.Itoa(int(p.Port))
		url := strings.ToLower(string(protocol(p))) + "://" + net.JoinHostPort(ip, number)
		if i == 0 {
			env[name+"_PORT"] = url
		}
		prefix := name + "_PORT_" + number + "_" + string(protocol(p))
		env[prefix], env[prefix+"_PROTO"], env[prefix+"_PORT"], env[prefix+"_ADDR"] = url, strings.ToLower(string(protocol(p))), number, ip
	}
}

// variable is a name as it is in variables.
func variable(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }
