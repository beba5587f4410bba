package apps

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/plan"
)

// digest is the digest of a wish.
type digest [sha256.Size]byte

func digestOf(o *unstructured.Unstructured) (digest, error) {
	raw, err := o.MarshalJSON()
	if err != nil {
		return digest{}, fmt.Errorf("write %s: %w", deploy.KeyOf(o), err)
	}
	return sha256.Sum256(raw), nil
}

// predictions are what dry runs gave. One holds for as long as the wish, the live object and the target's version stay the same.
type predictions struct {
	cluster, version, ignored string
	byKey                     map[deploy.Key]prediction
}

type prediction struct {
	wish digest
	// live is the resourceVersion of the live object; empty if there was none.
	live   string
	force  bool // the object is recreated if it cannot be changed
	object *unstructured.Unstructured
	at     time.Time
}

// absent is how long a prediction holds for what is not there: that it was claimed by somebody else meanwhile cannot be seen from its
// version.
const absent = 3 * time.Minute

// predict gives what applying each of the desired objects would give, and problems of those that would be refused. What is not managed
// is left as it is: it is not compared.
func (w *worker) predict(ctx context.Context, live []*unstructured.Unstructured) ([]*unstructured.Unstructured, []string, error) {
	can, err := w.cluster.Target.Capabilities(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("ask the target what it can do: %w", err)
	}
	known := w.predictions
	ignored := w.row.Annotations[deploy.AnnotationIgnoreKinds]
	if known.cluster != w.cluster.Name || known.version != can.Version || known.ignored != ignored {
		known.byKey = nil
	}
	next := predictions{cluster: w.cluster.Name, version: can.Version, ignored: ignored, byKey: make(map[deploy.Key]prediction, len(w.desired))}
	versions := make(map[deploy.Key]string, len(live))
	for _, o := range live {
		versions[deploy.KeyOf(o)] = o.GetResourceVersion()
	}
	var problems []string
	var owned []*deploy.OwnedError
	predicted := make([]*unstructured.Unstructured, 0, len(w.desired))
	options := w.options(w.row.Asked == nil)
	for _, o := range w.desired {
		if !plan.Managed(o) {
			predicted = append(predicted, o)
			continue
		}
		key := deploy.KeyOf(o)
		p, err := w.predictOne(ctx, o, versions[key], options, known.byKey[key])
		var other *deploy.OwnedError
		switch {
		case ctx.Err() != nil:
			return nil, nil, fmt.Errorf("compare %s: %w", key, ctx.Err())
		case errors.As(err, &other):
			owned = append(owned, other)
			fallthrough
		case err != nil:
			problems = append(problems, err.Error())
			predicted = append(predicted, o)
			continue
		}
		next.byKey[key] = p
		predicted = append(predicted, p.object)
	}
	w.predictions = next
	w.condition(deploy.ConditionShared, sharedWith(owned))
	return predicted, problems, nil
}

// respecting are the objects that are wanted, with the option RespectIgnoreDifferences with the fields that ignoreDifferences names as they are live.
func (w *worker) respecting(live []*unstructured.Unstructured) []*unstructured.Unstructured {
	w.changed = nil
	if !w.options(w.row.Asked == nil).RespectIgnored || len(w.row.Spec.IgnoreDifferences) == 0 {
		return w.wanted.objects
	}
	there := make(map[deploy.Key]*unstructured.Unstructured, len(live))
	for _, o := range live {
		there[deploy.KeyOf(o)] = o
	}
	w.changed = map[*unstructured.Unstructured]bool{}
	desired := make([]*unstructured.Unstructured, len(w.wanted.objects))
	for i, o := range w.wanted.objects {
		desired[i] = o
		if plan.Managed(o) && o.GetKind() != "Secret" { // the values of a live Secret are digests
			desired[i] = plan.Respect(o, there[deploy.KeyOf(o)], w.row.Spec.IgnoreDifferences)
		}
		w.changed[desired[i]] = desired[i] != o
	}
	return desired
}

// unrespected says of which Secrets ignoreDifferences names something that applying them does not leave alone.
func (w *worker) unrespected() []string {
	var notes []string
	for _, o := range w.wanted.objects {
		if o.GetKind() == "Secret" && w.changed != nil && plan.Ignores(w.row.Spec.IgnoreDifferences, o) {
			notes = append(notes, fmt.Sprintf("Secret %s: RespectIgnoreDifferences has no effect, for nobody reads the values of a Secret back", o.GetName()))
		}
	}
	return notes
}

// digest is that of a desired object; of those that are made anew at each look it is not kept.
func (w *worker) digest(o *unstructured.Unstructured) (digest, error) {
	if w.changed[o] {
		return digestOf(o)
	}
	return w.wanted.digest(o)
}

// predictOne gives a prediction, the one before if it still holds.
func (w *worker) predictOne(ctx context.Context, o *unstructured.Unstructured, live string, options plan.Options, before prediction) (prediction, error) {
	wish, err := w.digest(o)
	if err != nil {
		return prediction{}, err
	}
	now := w.c.o.Now()
	force := plan.OptionsOf(o, options).Force
	if before.object != nil && before.wish == wish && before.live == live && before.force == force && (live != "" || now.Sub(before.at) < absent) {
		return before, nil
	}
	made, err := w.apply(ctx, o, deploy.ApplyOptions{Application: w.key, DryRun: true, Force: force})
	return prediction{wish: wish, live: live, force: force, object: made, at: now}, err
}
