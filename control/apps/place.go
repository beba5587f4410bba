package apps

import (
	"context"
	"fmt"
	"slices"

	"github.com/tiphys/tiphys/deploy"
)

// locate finds the cluster that the Application runs on, by its row. Where that is no cluster of this server any more, the
// destination's counts, and the objects on the other stay on record.
func (w *worker) locate() error {
	cluster, err := w.c.o.Targets.Named(w.row.Cluster)
	if err == nil {
		w.cluster = cluster
		return nil
	}
	next, other := w.c.o.Targets.Resolve(w.row.Spec.Destination)
	if other != nil || w.row.Deleting {
		return fmt.Errorf("its objects are out of reach: %w", err)
	}
	w.leave(w.row.Cluster, next)
	return nil
}

// settle moves the Application to the cluster that its destination names. Its objects on the one before stay there until the
// Application is deleted: to delete them at once could end what is still needed.
func (w *worker) settle(ctx context.Context) error {
	next, err := w.c.o.Targets.Resolve(w.row.Spec.Destination)
	if err != nil || next.Name == w.cluster.Name {
		return err
	}
	live, err := w.cluster.Target.List(ctx, w.key)
	if err != nil {
		return fmt.Errorf("list objects on %s: %w", w.cluster.Name, err)
	}
	left := ""
	if len(live) > 0 {
		left = w.cluster.Name
	}
	w.leave(left, next)
	return nil
}

// leave makes next the Application's cluster, and notes one that it leaves objects on; empty is none.
func (w *worker) leave(left string, next deploy.Cluster) {
	clusters := slices.DeleteFunc(slices.Clone(w.row.Left), func(name string) bool { return name == next.Name })
	if left != "" && !slices.Contains(clusters, left) {
		clusters = append(clusters, left)
	}
	w.row.Left, w.cluster = clusters, next
	if w.row.Cluster = next.Name; next.Name == deploy.InCluster {
		w.row.Cluster = ""
	}
}

// remnants say where objects were left.
func (w *worker) remnants() []string {
	var notes []string
	for _, name := range w.row.Left {
		notes = append(notes, fmt.Sprintf("objects of it are left on the cluster %s, where it ran before; they go when the Application is deleted", name))
	}
	return notes
}
