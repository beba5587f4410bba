package apps

import (
	"context"
	"errors"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/promote"
	"github.com/tiphys/tiphys/ledger"
)

// apply applies one object. What another Application owns is taken over only where this one may.
func (w *worker) apply(ctx context.Context, o *unstructured.Unstructured, opt deploy.ApplyOptions) (*unstructured.Unstructured, error) {
	opt.For, opt.Hosts, opt.Ignore = w.subject(), w.leaves.hosts, w.ignored()
	made, err := w.cluster.Target.Apply(ctx, o, opt)
	var owned *deploy.OwnedError
	if !errors.As(err, &owned) {
		return made, err
	}
	if take, other := w.mayTake(ctx, owned.Owner); other != nil || !take {
		return nil, errors.Join(err, other)
	}
	opt.TakeFrom = owned.Owner
	return w.cluster.Target.Apply(ctx, o, opt)
}

// mayTake says whether objects of an owner may become this Application's: those of one that is not there any more, and, with the
// sync option Force=true of this Application, those of one in the same project, unless it is a preview. An object's own annotation is not asked: who
// writes a manifest has no say over what others own.
func (w *worker) mayTake(ctx context.Context, owner string) (bool, error) {
	other, err := w.c.row(ctx, owner)
	if errors.Is(err, ledger.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return w.row.MR == 0 && w.options(w.row.Asked == nil).Force && projectOf(w.row.Spec) == projectOf(other.Spec), nil
}

// subject is for whom the Application's pods are.
func (w *worker) subject() podpolicy.Subject {
	fork := w.row.Annotations[promote.AnnotationFork]
	if w.c.o.Rights == nil {
		return podpolicy.Subject{Kind: podpolicy.Application, Name: w.key, MergeRequest: w.row.MR, Fork: fork}
	}
	var urls []string
	for _, s := range w.row.Spec.SourceList() {
		urls = append(urls, s.RepoURL)
	}
	return w.c.o.Rights.Application(w.key, urls, w.row.MR, fork)
}
