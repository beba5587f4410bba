package failure

import "net/http"

// Teller is an [http.ResponseWriter] that knows who gets the answer: it writes the whole error down where that is due, and
// says how much of it is told.
type Teller interface {
	Tell(err error) string
}

// Tell is what whoever gets an answer may read of an error. An answer without a [Teller] goes to a stranger.
func Tell(w http.ResponseWriter, err error) string {
	for w != nil {
		if t, ok := w.(Teller); ok {
			return t.Tell(err)
		}
		inner, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		w = inner.Unwrap()
	}
	text, _ := ForStrangers(err)
	return text
}

// ForStrangers is an error as anybody may read it, and whether that is all of it. Errors about a request were written for
// whoever made it. What broke in the server names its files and what it said to itself, so only a sentence is left of that.
func ForStrangers(err error) (text string, whole bool) {
	kind := KindOf(err)
	switch kind {
	case Unclassified:
		return "something went wrong in the server", false
	case TimedOut:
		return "it took longer than it may take", false
	case NoSpace:
		return "the server has no room to store this", false
	case Waiting, RetryAfter, Stalled:
		if marked(err, kind) {
			return "this cannot be answered now", false
		}
	}
	return err.Error(), true
}

// marked reports whether an error has its kind from [Mark] or [Later] alone, and its text from what broke.
func marked(err error, kind Kind) bool {
	for err != nil {
		e, ok := err.(*Error) //nolint:errorlint // this walks the chain itself
		if ok && e.kind == kind {
			if e.text != "" {
				return false
			}
			switch KindOf(e.err) {
			case Unclassified, TimedOut, NoSpace:
				return true
			}
		}
		wraps, ok := err.(interface{ Unwrap() error })
		if !ok {
			return false
		}
		err = wraps.Unwrap()
	}
	return false
}
