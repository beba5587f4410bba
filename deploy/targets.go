package deploy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/manifest"
)

// The cluster that a server deploys to where a destination names no other, by both of the names that Argo CD has for its own.
// Without Kubernetes it is this machine.
const (
	InCluster       = "in-cluster"
	InClusterServer = "https://kubernetes.default.svc"
)

// ErrUnknownCluster says that a destination is no cluster of this server.
var ErrUnknownCluster = failure.New(failure.NotFound, "no such cluster")

// Place names a cluster as destinations do. Both names are its own and never change.
type Place struct {
	Name, Server string
}

// Cluster is a place where Applications run and what is there.
type Cluster struct {
	Place
	Target Target
	Pods   Pods
}

// Targets finds the target of an Application by its destination, and is the door of all of them: nothing is applied whose pods its
// policy refuses. It does not change; methods are safe for concurrent use.
type Targets struct {
	clusters []Cluster
}

// NewTargets registers clusters behind a policy. A name or server that is used twice, or that cannot be part of a key, is an error.
func NewTargets(policy podpolicy.Policy, clusters ...Cluster) (*Targets, error) {
	t := &Targets{}
	for _, c := range clusters {
		if !clusterName(c.Name) {
			return nil, fmt.Errorf("register cluster: %q is no name: use letters, digits, '.', '_' and '-'", c.Name)
		}
		if c.Target == nil || c.Pods == nil || c.Server == "" {
			return nil, fmt.Errorf("register cluster %s: server and target are needed", c.Name)
		}
		for _, other := range t.clusters {
			if other.Name == c.Name || other.Server == c.Server {
				return nil, fmt.Errorf("register cluster %s (%s): %s (%s) has the same name or server", c.Name, c.Server, other.Name, other.Server)
			}
		}
		c.Target = door{Target: c.Target, policy: policy}
		t.clusters = append(t.clusters, c)
	}
	slices.SortFunc(t.clusters, func(a, b Cluster) int { return cmp.Compare(a.Name, b.Name) })
	return t, nil
}

func clusterName(name string) bool {
	return name != "" && len(name) <= 253 && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
	})
}

// Resolve gives the cluster that a destination names by server, by name or, where it names neither, [InCluster]. A destination that
// is not known, or whose two names are of two clusters, is ErrUnknownCluster with those that there are.
func (t *Targets) Resolve(d manifest.Destination) (Cluster, error) {
	if d.Server == "" {
		return t.Named(d.Name)
	}
	for _, c := range t.clusters {
		if c.Server == strings.TrimRight(d.Server, "/") && (d.Name == "" || d.Name == c.Name) {
			return c, nil
		}
	}
	return Cluster{}, t.unknown(strings.TrimSpace(d.Server + " " + d.Name))
}

// Named gives a cluster by its name; empty is [InCluster].
func (t *Targets) Named(name string) (Cluster, error) {
	name = cmp.Or(name, InCluster)
	for _, c := range t.clusters {
		if c.Name == name {
			return c, nil
		}
	}
	return Cluster{}, t.unknown(name)
}

func (t *Targets) unknown(asked string) error {
	known := make([]string, len(t.clusters))
	for i, c := range t.clusters {
		known[i] = fmt.Sprintf("%s (%s)", c.Name, c.Server)
	}
	return fmt.Errorf("destination %s: %w: this server deploys to %s", asked, ErrUnknownCluster, cmp.Or(strings.Join(known, ", "), "none"))
}

// All gives every cluster, in order of name.
func (t *Targets) All() []Cluster { return slices.Clone(t.clusters) }
