package ledger

import (
	"errors"
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/tiphys/tiphys/failure"
)

// Partitions is how many parts the subjects are divided into. A part has one owner at a time.
const Partitions = 64

// Home is the part of a subject by which its partition is found: subjects with one home live together, and one transaction may
// append to all of them. The rule is for ever, since owners of different releases must agree on it.
//
//	definition/…, lock/…, lockholder/…, event/…, firing/…, object/…, entry/…   the kind alone (lockholder counts as lock, firing as
//	                                                                           event): each has one owner for all of them
//	run/NAMESPACE/NAME, and what follows it                                    run/NAMESPACE/NAME
//	repo/REPO                                                                  repo/REPO
//	mr/REPO/NUMBER, commit/REPO/SHA, push/REPO/ID, delivery/REPO/ID            repo/REPO
//	ref/REPO/refs/…                                                            repo/REPO
//	release/NAMESPACE/NAME/FORGE/REPO/NUMBER                                   release/NAMESPACE/NAME/FORGE/REPO
//	release/NAMESPACE/NAME/NUMBER, as releases were called first               release/NAMESPACE/NAME
//	anything else                                                              the whole subject
func Home(subject string) string {
	kind, rest, _ := strings.Cut(subject, "/")
	switch kind {
	case "definition", "lock", "event", "object", "entry":
		return kind
	case "lockholder":
		return "lock"
	case "firing":
		return "event"
	case "run":
		return firstSegments(subject, 3)
	case "mr", "commit", "push", "delivery":
		return "repo/" + withoutLast(rest)
	case "ref":
		return "repo/" + repoOfRef(rest)
	case "release":
		return withoutLast(subject)
	}
	return subject
}

func firstSegments(s string, n int) string {
	end := 0
	for range n {
		i := strings.IndexByte(s[end:], '/')
		if i < 0 {
			return s
		}
		end += i + 1
	}
	return s[:end-1]
}

func withoutLast(s string) string {
	if i := strings.LastIndexByte(s, '/'); i >= 0 {
		return s[:i]
	}
	return s
}

// repoOfRef takes NAME or OWNER/NAME off NAME/refs/… or OWNER/NAME/refs/…. A repository may itself be called refs.
func repoOfRef(s string) string {
	part := strings.SplitN(s, "/", 4)
	if len(part) > 2 && part[1] == "refs" && part[2] != "refs" {
		return part[0]
	}
	return firstSegments(s, 2)
}

// Partition is the partition of a subject, from 0: FNV-1a of its [Home] with 32 bits, modulo [Partitions].
func Partition(subject string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(Home(subject))) // never fails
	return int(h.Sum32() % Partitions)
}

// MayAppend says whether a transaction about one subject may append to another: if both have the same home. That two homes share a
// partition does not suffice: it would hold for some names and not for others.
func MayAppend(about, subject string) bool { return Home(about) == Home(subject) }

// Scope says what a decision is about, and so which partition it appends to and by which right.
type Scope struct {
	subject string
	fence   int64
	anyone  bool
	guards  []Guard
}

// Guard is what must hold of another subject for a decision to be recorded.
type Guard struct {
	Subject string
	Expect  Expect
}

// On is a decision by the owner of the subject's partition: whoever keeps the subject's state in memory and decides on it. It is
// refused with a [FencedError] where this ledger handle does not hold the partition, or not any more.
func On(subject string) Scope { return Scope{subject: subject} }

// Anyone is for facts that come from outside and follow from no state that an owner has in memory: a delivery, a pushed image, a
// definition that a person changes. Everybody may record them. Where they rest on something that was read, Draft.Expect or If guards it.
func Anyone(subject string) Scope { return Scope{subject: subject, anyone: true} }

// Under pins the fencing number under which the caller took over the state that it decides by. Without it the number that the handle
// has now counts, which is wrong for state that is older than the lease.
func (s Scope) Under(fence int64) Scope { s.fence = fence; return s }

// If refuses the decision with a [ConflictError] unless the last entry of a subject, of whatever partition, is the expected one.
func (s Scope) If(subject string, e Expect) Scope {
	s.guards = append(s.guards[:len(s.guards):len(s.guards)], Guard{Subject: subject, Expect: e})
	return s
}

// Subject is what the decision is about.
func (s Scope) Subject() string { return s.subject }

// Fence is the pinned fencing number; 0 if none is.
func (s Scope) Fence() int64 { return s.fence }

// Owned says that only the partition's owner may decide this.
func (s Scope) Owned() bool { return !s.anyone }

// Guards are what must hold of other subjects.
func (s Scope) Guards() []Guard { return s.guards }

// Expect is what the last entry of a subject is expected to be. The zero value expects nothing in particular.
type Expect struct {
	given bool
	last  Ref
}

// Last expects the entry to be the subject's last.
func Last(r Ref) Expect { return Expect{given: true, last: r} }

// Nothing expects that the subject has no entry yet.
func Nothing() Expect { return Expect{given: true} }

// Given says that something in particular is expected.
func (e Expect) Given() bool { return e.given }

// Ref is the expected entry; the zero Ref where there must be none.
func (e Expect) Ref() Ref { return e.last }

// The errors of decisions that are not recorded because somebody else was there first.
var (
	// ErrFenced says that the caller does not own what it decides on, or not any more. Its state is to be thrown away.
	ErrFenced = failure.New(failure.RetryAfter, "not the owner")
	// ErrConflict says that something changed since the caller read it.
	ErrConflict = failure.New(failure.Conflict, "changed meanwhile")
	// ErrCrossing says that a transaction touched what lives elsewhere; it is a fault of the program.
	ErrCrossing = errors.New("crosses partitions")
	// ErrWithinWrite says that a decision called the ledger itself and not its transaction; it is a fault of the program. The
	// decision is not recorded, whatever it does with the error.
	ErrWithinWrite = errors.New("called within a write: use the transaction's own reads, and read what lies elsewhere before")
)

// FencedError is an [ErrFenced].
type FencedError struct {
	// Subject is what was to be decided on, Partition where it lives.
	Subject   string
	Partition int
	// Fence is the number under which the caller decides, 0 if it holds none; Current is the partition's.
	Fence, Current int64
	// Owner is who has the partition now; empty if nobody has.
	Owner string
}

func (e *FencedError) Error() string {
	owner := "nobody"
	if e.Owner != "" {
		owner = e.Owner
	}
	return fmt.Sprintf("not the owner of partition %d (%s): it has fencing number %d and belongs to %s, the caller has %d",
		e.Partition, e.Subject, e.Current, owner, e.Fence)
}

// Is makes errors.Is(err, ErrFenced) hold.
func (e *FencedError) Is(target error) bool { return target == ErrFenced }

// FailureKind implements failure.Classified.
func (e *FencedError) FailureKind() failure.Kind { return failure.RetryAfter }

// ConflictError is an [ErrConflict].
type ConflictError struct {
	Subject string
	// Expected and Last are sequences; 0 stands for no entry. Last is 0, too, for an entry of the same transaction.
	Expected, Last int64
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s changed meanwhile: its last entry is %d, not %d", e.Subject, e.Last, e.Expected)
}

// Is makes errors.Is(err, ErrConflict) hold.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// FailureKind implements failure.Classified.
func (e *ConflictError) FailureKind() failure.Kind { return failure.Conflict }

// CrossingError is an [ErrCrossing].
type CrossingError struct {
	// About is the scope's subject, Subject what was to be touched.
	About, Subject string
}

func (e *CrossingError) Error() string {
	return fmt.Sprintf("a transaction about %s crosses partitions to %s: put an item for it into the outbox", e.About, e.Subject)
}

// Is makes errors.Is(err, ErrCrossing) hold.
func (e *CrossingError) Is(target error) bool { return target == ErrCrossing }
