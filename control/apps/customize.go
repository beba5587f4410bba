package apps

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/health"
	"github.com/tiphys/tiphys/failure"
)

// verdicts are what programs of the operator said, by what they were asked: judging happens often, and objects change seldom.
type verdicts struct {
	mu    sync.Mutex
	known map[[sha256.Size]byte]verdict
}

type verdict struct {
	health.Verdict
	at time.Time
}

const (
	// maxVerdicts is how many are kept; then all are asked for again.
	maxVerdicts = 4096
	// failedFor is how long a program that failed is not asked the same again. A limit of time may not be met the next time.
	failedFor = 5 * time.Minute
)

func (v *verdicts) get(digest [sha256.Size]byte, now time.Time) (health.Verdict, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	known, ok := v.known[digest]
	return known.Verdict, ok && (!known.Failed || now.Sub(known.at) < failedFor)
}

func (v *verdicts) put(digest [sha256.Size]byte, said health.Verdict, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.known == nil || len(v.known) >= maxVerdicts {
		v.known = map[[sha256.Size]byte]verdict{}
	}
	v.known[digest] = verdict{said, now}
}

// Judging are the rules by which these objects can be judged: those of [Controller.rules], and what the programs among them say of each.
// An error says that a program could not be run now, which tells nothing of its object: the rules call that one Unknown, with the reason.
func (c *Controller) Judging(ctx context.Context, objects []*unstructured.Unstructured) (health.Rules, error) {
	rules, now := c.rules(), c.o.Now()
	answered := map[[sha256.Size]byte]health.Verdict{}
	for _, o := range objects {
		if o == nil {
			continue
		}
		q, ok, err := rules.Ask(o)
		if err != nil || !ok {
			continue // the rules tell
		}
		v, known := c.verdicts.get(q.Digest, now)
		if !known {
			if c.o.Scripts == nil {
				return rules.With(answered, "no programs are run here"), nil
			}
			result, err := c.o.Scripts.Health(ctx, q.Program, q.Object)
			if err != nil && (failure.KindOf(err) == failure.RetryAfter || ctx.Err() != nil) {
				return rules.With(answered, err.Error()), fmt.Errorf("judge %s: %w", deploy.KeyOf(o), err)
			}
			v = q.Answer(result, err)
			c.verdicts.put(q.Digest, v, now)
		}
		answered[q.Digest] = v
	}
	return rules.With(answered, ""), nil
}

// rules are those by which objects are judged: the built-in ones, and the operator's in the ConfigMap argocd-cm.
func (c *Controller) rules() health.Rules {
	if r := c.health.Load(); r != nil {
		return r.rules
	}
	return health.Rules{}
}

// customProblems say what of the operator's rules has no effect. Every Application shows them, because they judge every one.
func (c *Controller) customProblems() []string {
	if r := c.health.Load(); r != nil {
		return r.problems
	}
	return nil
}

// customize reads the operator's rules of health again if they were changed. While they cannot be read the earlier ones stay.
func (c *Controller) customize(ctx context.Context) error {
	maps, err := definitions.All[corev1.ConfigMap](ctx, c.o.Definitions, "")
	if err != nil {
		return fmt.Errorf("read customizations: %w", err)
	}
	i := slices.IndexFunc(maps, func(d definitions.Seen[corev1.ConfigMap]) bool { return d.Definition.Name == health.ConfigMap })
	digest := ""
	if i >= 0 {
		digest = maps[i].Namespace + "/" + maps[i].Digest
	}
	if digest == c.customized {
		return nil
	}
	next := custom{}
	if i >= 0 {
		where := "ConfigMap " + maps[i].Namespace + "/" + maps[i].Name
		if maps[i].Problem != nil {
			next = custom{rules: c.rules(), problems: []string{"the customizations of before stay: " + unreadable(maps[i].Problem)}}
		} else {
			var problems []string
			next.rules, problems = health.NewRules(maps[i].Value.Data)
			for _, p := range problems {
				next.problems = append(next.problems, where+": a customization has no effect: "+p)
			}
		}
	}
	c.health.Store(&next)
	c.customized = digest
	return nil
}
