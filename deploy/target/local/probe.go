package local

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tiphys/tiphys/executor"
)

// eager is how often a probe that has not succeeded yet is tried, where its period is longer. Kubernetes waits a
// whole period; failures between the periods do not count here, so the thresholds mean the same.
const eager = 200 * time.Millisecond

// watch begins the probes of a pod that runs. t.mu is held.
func (t *Target) watch(p *pod) {
	if p.probes != nil {
		p.probes()
	}
	ctx, cancel := context.WithCancel(t.ctx)
	p.probes = cancel
	if p.passed == nil {
		p.passed = map[string]bool{}
	}
	id, ip := p.id(), p.ip
	for _, c := range p.spec().Spec.Containers {
		t.spawn(func(context.Context) { t.probeContainer(ctx, p, id, ip, c) })
	}
}

func (t *Target) probeContainer(ctx context.Context, p *pod, id executor.ID, ip string, c corev1.Container) {
	set := func(ready bool) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if ctx.Err() == nil && p.id() == id && p.passed != nil && p.passed[c.Name] != ready {
			p.passed[c.Name] = ready
			t.poke()
		}
	}
	fail := func(probe *corev1.Probe, why string) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if ctx.Err() != nil || p.id() != id {
			return
		}
		grace := p.grace()
		if own := probe.TerminationGracePeriodSeconds; own != nil {
			grace = time.Duration(*own) * time.Second
		}
		t.stopWithin(p, why, grace)
	}
	run := func(probe *corev1.Probe) error { return t.probe(ctx, id, ip, c, probe) }
	if c.StartupProbe != nil {
		started := false
		repeat(ctx, c.StartupProbe, run, func(ok bool) bool {
			if started = ok; !ok {
				fail(c.StartupProbe, fmt.Sprintf("container %s did not start: its startup probe failed", c.Name))
			}
			return false
		})
		if !started {
			return
		}
	}
	if c.LivenessProbe != nil {
		t.mu.Lock()
		t.spawn(func(context.Context) {
			repeat(ctx, c.LivenessProbe, run, func(ok bool) bool {
				if !ok {
					fail(c.LivenessProbe, fmt.Sprintf("the liveness probe of container %s failed", c.Name))
				}
				return ok
			})
		})
		t.mu.Unlock()
	}
	if c.ReadinessProbe == nil {
		set(true)
		return
	}
	repeat(ctx, c.ReadinessProbe, run, func(ok bool) bool {
		set(ok)
		return true
	})
}

// repeat probes until verdict returns false. The verdict is called at each crossing of a threshold, and at each
// further result of the same kind.
func repeat(ctx context.Context, p *corev1.Probe, run func(*corev1.Probe) error, verdict func(ok bool) bool) {
	period := seconds(p.PeriodSeconds, 10)
	successes, failures := int32(0), int32(0)
	succeeded := false
	lastCounted := time.Time{}
	wait := time.Duration(p.InitialDelaySeconds) * time.Second
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		err := run(p)
		if ctx.Err() != nil {
			return
		}
		now := time.Now()
		wait = period
		if err == nil {
			successes, failures, lastCounted = successes+1, 0, now
			if successes >= threshold(p.SuccessThreshold, 1) {
				succeeded = true
				if !verdict(true) {
					return
				}
			}
		} else {
			successes = 0
			if lastCounted.IsZero() || now.Sub(lastCounted) >= period-eager/2 {
				failures, lastCounted = failures+1, now
				if failures >= threshold(p.FailureThreshold, 3) && !verdict(false) {
					return
				}
			}
			if !succeeded {
				wait = min(eager, period)
			}
		}
		timer.Reset(wait)
	}
}

func seconds(n, standard int32) time.Duration {
	return time.Duration(threshold(n, standard)) * time.Second
}

func threshold(n, standard int32) int32 {
	if n <= 0 {
		return standard
	}
	return n
}

// probe runs a probe once.
func (t *Target) probe(ctx context.Context, id executor.ID, ip string, c corev1.Container, p *corev1.Probe) error {
	ctx, cancel := context.WithTimeout(ctx, seconds(p.TimeoutSeconds, 1))
	defer cancel()
	switch {
	case p.Exec != nil:
		code, output, err := t.o.Commands.Exec(ctx, id, c.Name, p.Exec.Command)
		if err != nil {
			return err
		}
		if code != 0 {
			return fmt.Errorf("exit code %d: %.200s", code, output)
		}
		return nil
	case p.HTTPGet != nil:
		return probeHTTP(ctx, ip, c, p.HTTPGet)
	case p.GRPC != nil:
		return probeGRPC(ctx, ip, p.GRPC)
	case p.TCPSocket != nil:
		host := p.TCPSocket.Host
		if host == "" {
			host = ip
		}
		port, err := portOf(c.Ports, p.TCPSocket.Port)
		if err != nil {
			return err
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			return err
		}
		return conn.Close()
	}
	return nil
}

func portOf(ports []corev1.ContainerPort, want intstr.IntOrString) (int, error) {
	if want.Type == intstr.Int {
		return want.IntValue(), nil
	}
	for _, p := range ports {
		if p.Name == want.StrVal {
			return int(p.ContainerPort), nil
		}
	}
	return 0, fmt.Errorf("no container port is named %q", want.StrVal)
}

func probeHTTP(ctx context.Context, ip string, c corev1.Container, get *corev1.HTTPGetAction) error {
	host := get.Host
	if host == "" {
		host = ip
	}
	port, err := portOf(c.Ports, get.Port)
	if err != nil {
		return err
	}
	scheme := "http"
	if get.Scheme == corev1.URISchemeHTTPS {
		scheme = "https"
	}
	path := get.Path
	if path == "" || path[0] != '/' {
		path = "/" + path
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+net.JoinHostPort(host, strconv.Itoa(port))+path, nil)
	if err != nil {
		return err
	}
	if request.Header = probeHeaders(get.HTTPHeaders); request.Header.Get("Host") != "" {
		request.Host = request.Header.Get("Host")
		request.Header.Del("Host")
	}
	// Probes do not check certificates, as in Kubernetes, and share no connection with anything.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, //nolint:gosec // a probe asks whether somebody answers, not who
		CheckRedirect: sameHost}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 10<<10))
	if response.StatusCode < 200 || response.StatusCode >= 400 {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	return nil
}

// probeAgent is who probes say they are.
const probeAgent = "tiphys-probe"

// probeHeaders are those of a probe: what the manifest says, and of what it does not say Kubernetes' own. An empty value takes one away.
func probeHeaders(list []corev1.HTTPHeader) http.Header {
	h := http.Header{}
	for _, each := range list {
		h.Add(each.Name, each.Value)
	}
	if _, said := h["Accept"]; !said {
		h.Set("Accept", "*/*")
	} else if h.Get("Accept") == "" {
		h.Del("Accept")
	}
	if _, said := h["User-Agent"]; !said {
		h.Set("User-Agent", probeAgent)
	}
	return h
}

// maxRedirects is how often a probe is sent on.
const maxRedirects = 10

// sameHost follows a redirection to the same host, as Kubernetes does: what is there decides. One to elsewhere is an answer.
func sameHost(next *http.Request, before []*http.Request) error {
	if next.URL.Hostname() != before[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	if len(before) >= maxRedirects {
		return fmt.Errorf("it was sent on %d times", maxRedirects)
	}
	return nil
}
