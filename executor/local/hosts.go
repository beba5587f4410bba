package local

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// SetHosts gives further names to all pods that have a hosts file of their own (all but host views), those that
// run too: names by address. It replaces what was set before.
func (e *Executor) SetHosts(hosts map[string][]string) error {
	e.hostFiles.Lock()
	defer e.hostFiles.Unlock()
	e.mu.Lock()
	e.hosts = make(map[string][]string, len(hosts))
	for address, names := range hosts {
		e.hosts[address] = slices.Clone(names)
	}
	var live []*attempt
	for _, a := range e.attempts {
		live = append(live, a)
	}
	e.mu.Unlock()
	var failed error
	for _, a := range live {
		if _, err := os.Stat(filepath.Join(a.workFolder(), "hosts")); err != nil {
			continue
		}
		if err := a.writeHosts(e.extraHosts(a.pod.Pod.Namespace)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, fmt.Errorf("set host names of %s: %w", a.id.Node, err))
		}
	}
	return failed
}

// extraHosts is what SetHosts set, as lines for pods of a namespace. A Service of that namespace is found by its bare
// name too, and a pod by its name and that of its Service, as the search list of a pod's resolv.conf has it in Kubernetes.
func (e *Executor) extraHosts(namespace string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	suffix := "." + namespace + ".svc.cluster.local"
	var b strings.Builder
	for _, address := range sortedKeys(e.hosts) {
		var bare []string
		for _, name := range e.hosts[address] {
			if short, own := strings.CutSuffix(name, suffix); own && strings.Count(short, ".") < 2 {
				bare = append(bare, short)
			}
		}
		b.WriteString(hostsLine(address, append(bare, e.hosts[address]...)))
	}
	return b.String()
}

func hostsLine(address string, names []string) string {
	line := address + "\t" + strings.Join(names, " ")
	// A line break in a name must not make further entries.
	return strings.NewReplacer("\n", "", "\r", "").Replace(line) + "\n"
}

// beginHosts writes the hosts file of a pod that is about to start.
func (e *Executor) beginHosts(a *attempt) error {
	e.hostFiles.Lock()
	defer e.hostFiles.Unlock()
	return a.writeHosts(e.extraHosts(a.pod.Pod.Namespace))
}

// machineHosts are the names that this machine knows by itself, but for those of loopback, which is another one in a pod.
func machineHosts() string {
	data, _ := os.ReadFile("/etc/hosts") // without it there are none
	var b strings.Builder
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		if at, err := netip.ParseAddr(fields[0]); err == nil && !at.IsLoopback() {
			b.WriteString(strings.TrimSuffix(line, "\n") + "\n")
		}
	}
	return b.String()
}

// writeHosts writes the pod's hosts file in place: the file is bound into the pod, so it must stay the same one.
func (a *attempt) writeHosts(extra string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	spec := &a.pod.Pod.Spec
	if a.ip != "" {
		name := (&builder{a: a, e: a.e, pod: &a.pod, spec: spec}).hostname()
		names := []string{name}
		if spec.Subdomain != "" {
			names = []string{name + "." + spec.Subdomain + "." + a.pod.Pod.Namespace + ".svc.cluster.local", name}
		}
		b.WriteString(hostsLine(a.ip, names))
	}
	if a.host {
		b.WriteString(machineHosts())
	}
	for _, alias := range spec.HostAliases {
		b.WriteString(hostsLine(alias.IP, alias.Hostnames))
	}
	b.WriteString(extra)
	return os.WriteFile(filepath.Join(a.workFolder(), "hosts"), []byte(b.String()), 0o644)
}
