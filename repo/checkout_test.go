package repo

import (
	"errors"
	"testing"
)

func TestLinksThatLeadOutside(t *testing.T) {
	for _, c := range []struct {
		links map[string]string
		safe  bool
	}{
		{map[string]string{"a": "b"}, true},
		{map[string]string{"a/b": "../c"}, true},
		{map[string]string{"a": "a"}, true}, // a loop leads nowhere
		{map[string]string{"a": "/etc"}, false},
		{map[string]string{"a": ".."}, false},
		{map[string]string{"a/b": "../../c"}, false},
		{map[string]string{"a/b/up": "../..", "l": "a/b/up/.."}, false}, // clean in text, not in fact
		{map[string]string{"a/b/up": "../..", "l": "a/b/up/x"}, true},
		{map[string]string{"d": "x/y", "l": "d/../z"}, true},
	} {
		var err error
		for link := range c.links {
			err = errors.Join(err, follow(c.links, link))
		}
		if (err == nil) != c.safe {
			t.Errorf("%v: %v, want safe %v", c.links, err, c.safe)
		}
	}
}
