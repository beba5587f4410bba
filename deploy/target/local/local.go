// Package local makes this machine a deploy target: Deployments, StatefulSets and DaemonSets with their Pods, Jobs and CronJobs,
// PersistentVolumeClaims, Services with virtual addresses, Ingresses behind one HTTP proxy, ConfigMaps and Secrets, all with a status in
// Kubernetes' shape.
//
// Every wish and every state that matters is an object record in the ledger before anything is done about it; memory
// is a cache. Pods run through an executor under an ID made of the pod's uid, its name and the restart, so a server
// that comes back attaches to what runs and starts nothing twice.
package local

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/netpolicy"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/keeper/front"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/secret"
)

// OwnerPrefix begins the Owner of every executor ID of this target, for whoever shares the executor.
const OwnerPrefix = "object-"

// Box keeps Secret values at rest; secret.Box is one. The context binds a sealed value to its object.
type Box interface {
	Seal(value secret.Value, context string) []byte
	Open(sealed []byte, context string) (secret.Value, error)
}

// Names lets pods resolve names; executor/local has it.
type Names interface {
	// SetHosts replaces the names that every pod resolves, by address.
	SetHosts(names map[string][]string) error
}

// Addresses makes virtual addresses of Services answer on this machine.
type Addresses interface {
	// Range is where addresses are taken from.
	Range() netip.Prefix
	// Add makes an address local, Remove ends it; both may be repeated.
	Add(netip.Addr) error
	Remove(netip.Addr) error
}

// Wall keeps pods from each other; executor/local has it.
type Wall interface {
	// SetPolicies replaces the NetworkPolicies that pods are held to, those that run and those that come, from their first packet on. After an
	// error they are held to what they were held to before.
	SetPolicies(netpolicy.Policies) error
}

// Front carries requests to pods. front.Front does it in this process, keeper.Client in one that outlives it.
type Front interface {
	// Set replaces what goes where. A table that is refused changes nothing.
	Set(front.Table) error
	// Drained waits until nothing is under way to a pod (by uid) which gets nothing new from now on, or until ctx ends.
	Drained(ctx context.Context, backend string)
}

// Places are those of the machine's pods, of runs and applications alike; admission.Gate has them. A pod asks for one before each
// start and leaves it when its attempt has ended.
type Places interface {
	// Ask has granted called, on any goroutine and maybe at once, when the pod has a place. It must not wait.
	Ask(id executor.ID, granted func())
	// Hold counts a pod that runs already.
	Hold(id executor.ID)
	// Withdraw takes back what a pod asked for; false if it does not wait.
	Withdraw(id executor.ID) bool
	// Leave gives a place back; a pod without one is no error.
	Leave(id executor.ID)
}

// Options of a [Target].
type Options struct {
	// Cluster is the name under which this machine is registered in deploy.Targets; deploy.InCluster if empty. It never changes.
	Cluster  string
	Ledger   ledger.Ledger
	Executor executor.Executor
	// Logs and Commands look into the executor's pods.
	Logs     executor.Logs
	Commands executor.Commands
	// Volumes has running pods see what changes in the ConfigMaps and Secrets that they mount; nil leaves them with what there was at their start.
	Volumes executor.Volumes
	// Reports delivers this target's reports where the executor is shared; nil means Executor.Reports().
	Reports <-chan executor.Report
	// Places bounds how many pods are live; nil is no bound. A pod that finds none waits, and says so.
	Places Places
	// Box encrypts Secrets; without one they are refused.
	Box Box
	// DigestKey makes the digests that stand for Secret values unguessable.
	DigestKey []byte
	// Claims keeps what PersistentVolumeClaims stand for; without it they are refused.
	Claims executor.Claims
	// Names is told of the Services; nil leaves pods with the names known at their start.
	Names Names
	// Addresses of Services; nil means 127.88.0.0/16, which pods of a network of their own cannot reach.
	Addresses Addresses
	// Wall holds pods to NetworkPolicies; without one they are refused.
	Wall Wall
	// Callers is the network of the pods, if their calls of Services are carried under their own addresses; see [front.Table].
	Callers netip.Prefix
	// Machine is the address under which the front's requests reach pods, by which NetworkPolicies judge them.
	Machine netip.Addr
	// Front carries requests to the pods; required.
	Front Front
	// OwnNames are host names of the server's own pages: no Ingress may have one, or one below. The names of loopback are not among them, since
	// applications are below localhost by default.
	OwnNames []string
	// Certificates makes those of hosts that no Secret proves; without one they have no TLS.
	Certificates Certifier
	// BehindProxy says that a proxy in front has TLS for everybody.
	BehindProxy bool
	// IngressAddress is shown in the status of Ingresses; "127.0.0.1" if empty.
	IngressAddress string
	// Main process environment given to every container: TIPHYS_* and the like.
	Env map[string]string
	// Held opens a target that only shows what there is until Begin.
	Held bool
	Now  func() time.Time
	Log  *slog.Logger
	// Fault is called at named points, for crash tests: "apply" and "applied" (before and after it is on record), "delete",
	// "pod-start" and "pod-started" (before and after the executor has it), "pod-end" (it has ended, which is not on record).
	Fault func(point string)
}

// Target is this machine.
type Target struct {
	o      Options
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	kick   chan struct{}
	hints  *hints

	mu       sync.Mutex
	objects  *index
	pods     map[string]*pod // by uid
	services map[deploy.Key]*service
	// ingresses are what was read of Ingresses, by uid.
	ingresses map[string]*ingress
	proofs    proofs
	hosts     map[string][]string
	walls     walls
	wake      time.Time
	// granted are pods that were given a place and not begun.
	granted grants
	// addresses are those of Services that are gone, which could not be removed yet.
	addresses map[netip.Addr]deploy.Key
	// dropping are claims whose volumes are being removed, by uid.
	dropping map[string]bool
	// damaged are objects whose records cannot be read, by the keys of their rows.
	damaged map[string]damaged
	// troubles are what does not succeed and is tried again.
	troubles failure.Troubles
	// late are ends of pods that could not be recorded.
	late   []executor.Report
	begun  bool
	closed bool
	// refreshing counts the pods whose volumes are being refreshed.
	refreshing int
}

var (
	_ deploy.Target = (*Target)(nil)
	_ deploy.Pods   = (*Target)(nil)
)

// Open reads the objects from the ledger, attaches to their pods and goes on with what was under way.
func Open(ctx context.Context, o Options) (*Target, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Addresses == nil {
		o.Addresses = Loopback{}
	}
	if o.IngressAddress == "" {
		o.IngressAddress = "127.0.0.1"
	}
	if o.Reports == nil {
		o.Reports = o.Executor.Reports()
	}
	if o.Places == nil {
		o.Places = unbounded{}
	}
	if o.Fault == nil {
		o.Fault = func(string) {}
	}
	t := &Target{o: o, kick: make(chan struct{}, 1), hints: newHints(),
		objects: newIndex(), pods: map[string]*pod{}, services: map[deploy.Key]*service{}, ingresses: map[string]*ingress{},
		addresses: map[netip.Addr]deploy.Key{}, damaged: map[string]damaged{}, dropping: map[string]bool{}}
	if err := t.load(ctx); err != nil {
		return nil, fmt.Errorf("open local target: %w", err)
	}
	t.ctx, t.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if !o.Held {
		t.Begin()
	}
	return t, nil
}

// Begin has a target that was opened as held attach to its pods and go on with what was under way. Where that was done it does nothing.
func (t *Target) Begin() {
	t.mu.Lock()
	if t.begun || t.closed {
		t.mu.Unlock()
		return
	}
	t.begun = true
	t.wall()
	// Those that may run have their places before others ask.
	for _, p := range t.pods {
		if p.mayRun() {
			t.o.Places.Hold(p.id())
		}
	}
	for _, p := range t.pods {
		t.adopt(p)
	}
	// What was ready is served from the first moment.
	t.reconcile()
	t.work.Go(t.loop)
	t.work.Go(func() { t.hints.run(t.ctx) })
	t.mu.Unlock()
	t.poke()
}

// Close stops looking after the objects. Pods go on, and what carries requests to them.
func (t *Target) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	t.mu.Unlock()
	t.cancel()
	t.work.Wait()
	return nil
}

// spawn runs f and has Close wait for it; t.mu is held.
func (t *Target) spawn(f func(ctx context.Context)) {
	if t.closed {
		return
	}
	t.work.Add(1)
	go func() {
		defer t.work.Done()
		f(t.ctx)
	}()
}

func (t *Target) poke() {
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

func (t *Target) loop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-t.ctx.Done():
			return
		case r, open := <-t.o.Reports:
			if !open {
				return
			}
			t.report(r)
		case <-t.kick:
		case <-timer.C:
		}
		t.mu.Lock()
		t.reconcile()
		wait := time.Minute
		if !t.wake.IsZero() {
			wait = min(wait, max(t.wake.Sub(t.o.Now()), time.Millisecond))
		}
		t.mu.Unlock()
		timer.Reset(wait)
	}
}

// at asks to be woken; t.mu is held.
func (t *Target) at(when time.Time) {
	if t.wake.IsZero() || when.Before(t.wake) {
		t.wake = when
	}
}

// Get implements deploy.Target.
func (t *Target) Get(ctx context.Context, k deploy.Key) (*unstructured.Unstructured, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("get %s: %w", k, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.whole(k); err != nil {
		return nil, fmt.Errorf("get %s: %w", k, err)
	}
	o := t.objects.byKey[k]
	if o == nil {
		return nil, fmt.Errorf("get %s: %w", k, deploy.ErrNotFound)
	}
	return o.view(), nil
}

// List implements deploy.Target.
func (t *Target) List(ctx context.Context, application string) ([]*unstructured.Unstructured, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list objects: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.allWhole(application); err != nil {
		return nil, fmt.Errorf("list objects: %w", err)
	}
	objects := t.objects.of(application)
	found := make([]*unstructured.Unstructured, len(objects))
	for i, o := range objects {
		found[i] = o.view()
	}
	return found, nil
}

// Changes implements deploy.Target.
func (t *Target) Changes() <-chan deploy.Change { return t.hints.out }

// Logs implements deploy.Target.
func (t *Target) Logs(ctx context.Context, k deploy.Key, container string, o deploy.LogOptions) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("logs of %s: %w", k, err)
	}
	t.mu.Lock()
	found := t.objects.byKey[k]
	if found == nil || k.Kind != "Pod" || k.Group != "" {
		t.mu.Unlock()
		return nil, fmt.Errorf("logs of %s: %w", k, deploy.ErrNotFound)
	}
	id := found.id()
	if container == "" {
		if list, _, _ := unstructured.NestedSlice(found.live.Object, "spec", "containers"); len(list) > 0 {
			first, _ := list[0].(map[string]any)
			container, _ = first["name"].(string)
		}
	}
	t.mu.Unlock()
	if o.Previous {
		if id.Attempt == 0 {
			return nil, fmt.Errorf("logs of %s: it was not restarted: %w", k, deploy.ErrNotFound)
		}
		id.Attempt--
	}
	from := 0
	if o.Tail > 0 {
		from = -o.Tail
	}
	r, err := t.o.Logs.Logs(ctx, id, container, executor.LogOptions{FromLine: from, Follow: o.Follow})
	if errors.Is(err, executor.ErrNotFound) && id.Attempt > 0 && !o.Previous {
		// A container that waits to be restarted has no log yet; the one that ended says why, as kubectl logs does.
		id.Attempt--
		r, err = t.o.Logs.Logs(ctx, id, container, executor.LogOptions{FromLine: from})
	}
	if errors.Is(err, executor.ErrNotFound) {
		return nil, fmt.Errorf("logs of %s: %w", k, deploy.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("logs of %s: %w", k, err)
	}
	return r, nil
}

func random(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // It never fails; see crypto/rand.
	return hex.EncodeToString(b)
}

func newUID() string {
	s := random(16)
	return s[:8] + "-" + s[8:12] + "-4" + s[13:16] + "-a" + s[17:20] + "-" + s[20:]
}
