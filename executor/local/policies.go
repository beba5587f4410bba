package local

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/netpolicy"
	"github.com/tiphys/tiphys/executor/protocol"
)

// policiesFile is where an executor keeps the policies that its pods are held to, for its next start: pods go on meanwhile, and others may begin
// before anybody says the policies again.
const policiesFile = "policies.json"

// held are the policies that pods are held to.
type held struct {
	file string
	// text are the policies as they are kept; nil for none.
	text []byte
	// unknown says why it is not known what pods are held to: none begins until it is.
	unknown error
}

func (h *held) any() bool { return h.text != nil || h.unknown != nil }

// read gives the plan of an earlier executor's policies; without them there are none.
func (h *held) read() *netpolicy.Plan {
	plan := &netpolicy.Plan{}
	text, err := os.ReadFile(h.file)
	if errors.Is(err, fs.ErrNotExist) {
		return plan
	}
	var kept netpolicy.Policies
	if err == nil {
		err = json.Unmarshal(text, &kept)
	}
	if err == nil {
		plan, err = netpolicy.Compile(kept)
	}
	if err != nil {
		h.unknown = fmt.Errorf("the NetworkPolicies of pods are not known yet: %w", err)
		return &netpolicy.Plan{}
	}
	h.text = text
	return plan
}

// textOf is how policies are kept; nil for none.
func textOf(p netpolicy.Policies) ([]byte, error) {
	if len(p.Policies) == 0 {
		return nil, nil // labels of namespaces alone say nothing
	}
	return json.Marshal(p)
}

func (h *held) write(text []byte) error {
	if text == nil {
		if err := os.Remove(h.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	return protocol.WriteFile(h.file, text, true)
}

// seen is a pod as policies see it. Whoever opens a merge request chooses the labels of its steps, so they count for nothing: nobody gets by them
// where a policy lets certain pods.
func seen(at netip.Addr, p *executor.Pod) netpolicy.Pod {
	pod := netpolicy.PodOf(at, &p.Pod)
	if p.For.MergeRequest != 0 && p.For.Kind != podpolicy.Application {
		pod.Labels = nil
	}
	return pod
}

// SetPolicies replaces the NetworkPolicies that pods with a network of their own are held to: those that run, and those that come from their
// first packet on. They are kept for the next start. What began before goes on. After an error pods are held to what they were held to.
func (e *Executor) SetPolicies(p netpolicy.Policies) error {
	n := e.network
	if n.invalid != nil {
		if len(p.Policies) == 0 {
			return nil
		}
		return fmt.Errorf("pods are held to NetworkPolicies by their own network, and have none: %w", n.invalid)
	}
	plan, err := netpolicy.Compile(p)
	if err != nil {
		return err
	}
	text, err := textOf(p)
	if err != nil {
		return fmt.Errorf("keep NetworkPolicies: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.wall.broken != nil && len(p.Policies) > 0 {
		return n.wall.broken
	}
	if n.held.unknown == nil && bytes.Equal(text, n.held.text) {
		return nil
	}
	if err := n.held.write(text); err != nil {
		return fmt.Errorf("keep NetworkPolicies: %w", err)
	}
	before, was := n.wall.plan, n.held
	n.wall.plan, n.held.text, n.held.unknown = plan, text, nil
	if !n.isUp {
		return nil // it is made with them
	}
	if err := n.putWall(); err != nil {
		n.wall.plan, n.held, n.isUp = before, was, false // the sets are those of the new ones
		return err
	}
	return nil
}
