package plan

import (
	"time"

	"github.com/tiphys/tiphys/manifest"
)

// Argo CD's waits: between retries 5 s doubling to 3 min, five times in automated syncs; self-heal from 5 s to 5 min.
const (
	defaultRetryWait  = 5 * time.Second
	defaultRetryLimit = 5
	maxRetryWait      = 3 * time.Minute
	maxHealWait       = 5 * time.Minute
)

// RetryAt is when a sync that failed is tried again; false if it is not. Retries counts those so far.
func RetryAt(policy *manifest.SyncPolicy, automated bool, retries int64, failed time.Time) (time.Time, bool) {
	limit, wait, factor, most := int64(0), defaultRetryWait, int64(2), maxRetryWait
	if automated {
		limit = defaultRetryLimit
	}
	if policy != nil && policy.Retry != nil {
		limit = policy.Retry.Limit
		if b := policy.Retry.Backoff; b != nil {
			wait = duration(b.Duration, wait)
			most = duration(b.MaxDuration, most)
			if b.Factor != nil && *b.Factor > 0 {
				factor = *b.Factor
			}
		}
	}
	if limit >= 0 && retries >= limit {
		return time.Time{}, false
	}
	for range min(retries, 64) {
		if wait *= time.Duration(factor); wait >= most || wait <= 0 {
			wait = most
			break
		}
	}
	return failed.Add(min(wait, most)), true
}

func duration(text string, standard time.Duration) time.Duration {
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return d
	}
	if d, err := time.ParseDuration(text + "s"); err == nil && d > 0 {
		return d
	}
	return standard
}

// AutoInput is what an automated sync is decided from.
type AutoInput struct {
	Policy     *manifest.SyncPolicy
	Comparison Comparison
	// Revision identifies what is desired: commit, release and parameters.
	Revision string
	// Last is the last operation; zero if there was none.
	Last Operation
	// Retries and Heals count the tries for Revision so far.
	Retries, Heals int64
	Now            time.Time
}

// Verdict on an automated sync.
type Verdict struct {
	Sync bool
	// Heal and Retry say what it is a try of.
	Heal, Retry bool
	// At is when to decide again, if not zero.
	At     time.Time
	Reason string
	// Stuck says that a sync failed and that nothing but a change or a person has it tried again.
	Stuck bool
}

// Auto decides whether to sync without being asked: once for each revision, again after a failure by the retry
// policy, and, with selfHeal, when what is live drifted away.
func Auto(in AutoInput) Verdict {
	switch {
	case !in.Policy.IsAutomated():
		return Verdict{Reason: "automated sync is not on"}
	case in.Comparison.Status != OutOfSync:
		return Verdict{Reason: "in sync"}
	case in.Last.Phase == Running:
		return Verdict{Reason: "a sync is running"}
	case onlyPrunes(in.Comparison) && !in.Policy.Automated.Prune:
		return Verdict{Reason: "objects need pruning, and automated.prune is not set"}
	case in.Last.Phase == "" || in.Last.Revision != in.Revision || in.Last.Phase == Superseded:
		return Verdict{Sync: true, Reason: "a new revision"}
	case in.Last.Phase != Succeeded:
		at, again := RetryAt(in.Policy, true, in.Retries, in.Last.FinishedAt)
		if !again {
			return Verdict{Stuck: true, Reason: "the sync of this revision failed and is not tried again: " + in.Last.Message}
		}
		if in.Now.Before(at) {
			return Verdict{At: at, Reason: "waiting to retry"}
		}
		return Verdict{Sync: true, Retry: true, Reason: "retrying"}
	case !in.Policy.Automated.SelfHeal:
		return Verdict{Reason: "this revision was synced; selfHeal is not set"}
	}
	wait := defaultRetryWait
	for range min(in.Heals, 16) {
		wait = min(wait*2, maxHealWait)
	}
	if at := in.Last.FinishedAt.Add(wait); in.Now.Before(at) {
		return Verdict{At: at, Reason: "waiting to heal"}
	}
	return Verdict{Sync: true, Heal: true, Reason: "what is live differs from what was synced"}
}

func onlyPrunes(c Comparison) bool {
	for _, r := range c.Resources {
		if r.Status == OutOfSync && !r.RequiresPruning {
			return false
		}
	}
	return true
}
