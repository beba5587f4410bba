package forge

import (
	"strings"
	"time"

	"github.com/tidwall/gjson"
)

// payload is the object that a forge sent, looked through once: what is asked of it is spread over all of it.
type payload struct {
	whole gjson.Result
	top   map[string]gjson.Result
}

func payloadOf(object gjson.Result) payload {
	p := payload{whole: object, top: map[string]gjson.Result{}}
	object.ForEach(func(key, value gjson.Result) bool {
		name := key.String()
		if _, twice := p.top[name]; !twice { // gjson finds the first
			p.top[name] = value
		}
		return true
	})
	return p
}

// timeOf is a time as GitHub and Gitea write it; zero if it is none.
func timeOf(v gjson.Result) time.Time {
	at, err := time.Parse(time.RFC3339, v.String())
	if err != nil {
		return time.Time{}
	}
	return at.UTC()
}

// Get is the value at a path of names joined by dots; one that does not exist if there is none.
func (p payload) Get(path string) gjson.Result {
	name, rest, deeper := strings.Cut(path, ".")
	value := p.top[name]
	if !deeper {
		return value
	}
	return value.Get(rest)
}
