package access

import (
	"encoding/json"
	"net/url"
	"strings"

	"github.com/tiphys/tiphys/ledger"
)

// Thing is an object as the policy knows it. Namespace is empty for what has none.
type Thing struct{ Kind, Namespace, Name string }

// unknown is the namespace and the name of a thing of which the record does not say whose it is. It is seen by whoever may see every
// thing of its kind: no namespace and no name is written like this.
const unknown = "?"

// OfRow gives what a row is about; who may see the row may get each of them. A table that is not known here is the ledger's own.
func OfRow(row ledger.Row) []Thing {
	switch row.Table {
	case "run":
		return one(Run, row.Key)
	case "node", "attempt", "lockholder", "memo":
		return one(Run, row.Owner)
	case "application":
		return one("Application", row.Key)
	case "applicationset":
		return one("ApplicationSet", row.Key)
	case "deployment":
		return one("Application", row.Owner)
	case "object":
		return object(row.Key, row.Owner)
	case "release":
		return one(Release, row.Owner)
	case "cron":
		return one("CronWorkflow", row.Key)
	case "post":
		return one("Forge", row.Owner)
	case "event", "decision", "approval":
		return one(Event, row.Owner)
	case "firing":
		return one(Firing, row.Labels["sensor"])
	case "quarantine":
		return []Thing{{Server, "", row.Key}}
	case "user":
		return []Thing{{User, "", row.Key}}
	case "token":
		return []Thing{{User, "", row.Owner}}
	case "sensor-state":
		return one("Sensor", row.Owner)
	case "definition":
		kind, key, _ := strings.Cut(row.Key, "/")
		return one(kind, key)
	}
	return ofGit(row)
}

// ofGit is [OfRow] of the built-in remote's tables.
func ofGit(row ledger.Row) []Thing {
	switch row.Table {
	case "repository":
		return []Thing{{Repository, "", row.Key}}
	case "push", "ref":
		return []Thing{{Repository, "", row.Owner}}
	case "status": // the owner is REPOSITORY@COMMIT
		return []Thing{{Repository, "", before(row.Owner, "@")}}
	case "mr":
		return mergeRequest(row.Key, "#")
	case "comment":
		return mergeRequest(row.Owner, "#")
	}
	return []Thing{{Ledger, "", row.Key}}
}

// OfEntry gives what an entry is about; who may see the entry may get each of them. A subject that is not known here is the
// ledger's own.
func OfEntry(e ledger.Entry) []Thing {
	kind, rest, _ := strings.Cut(e.Subject, "/")
	switch kind {
	case "run", "lockholder":
		return one(Run, firstTwo(rest))
	case "application":
		return one("Application", rest)
	case "applicationset":
		return one("ApplicationSet", rest)
	case "object":
		var body struct {
			Application string `json:"application"`
		}
		if len(e.Body) > 0 && json.Unmarshal(e.Body, &body) != nil {
			body.Application = ""
		}
		return object(rest, body.Application)
	case "release":
		return one(Release, firstTwo(rest))
	case "event":
		return one(Event, firstTwo(rest))
	case "firing": // firing/EVENT/NAMESPACE/SENSOR/TRIGGER/NUMBER
		_, key, _ := strings.Cut(rest, "/")
		return one(Firing, firstTwo(key))
	case "cron":
		return one("CronWorkflow", rest)
	case "post": // the forge's name is the escaped first part
		if name, err := url.QueryUnescape(before(rest, "/")); err == nil {
			return one("Forge", name)
		}
		return one("Forge", "")
	case "definition":
		of, key, _ := strings.Cut(rest, "/")
		return one(of, key)
	case "quarantine":
		return []Thing{{Server, "", rest}}
	case "user", "login":
		return []Thing{{User, "", rest}}
	case "image":
		return []Thing{{Image, "", rest}}
	}
	return ofGitEntry(kind, rest, e)
}

// ofGitEntry is [OfEntry] of the built-in remote's subjects. Names of repositories have slashes; what follows them has none, but
// for a ref.
func ofGitEntry(kind, rest string, e ledger.Entry) []Thing {
	switch kind {
	case "repo":
		return []Thing{{Repository, "", rest}}
	case "ref":
		return []Thing{{Repository, "", strings.TrimPrefix(ledger.Home(e.Subject), "repo/")}}
	case "push", "commit":
		return []Thing{{Repository, "", withoutLast(rest)}}
	case "delivery": // an event of the remote: its source is in the body
		var body struct {
			Event struct{ Namespace, Source string }
		}
		if len(e.Body) == 0 || json.Unmarshal(e.Body, &body) != nil || body.Event.Namespace == "" {
			return one(Event, "")
		}
		return []Thing{{Event, body.Event.Namespace, body.Event.Source}}
	case "mr":
		i := strings.LastIndexByte(rest, '/')
		if i < 0 {
			return []Thing{{MergeRequest, "", unknown}}
		}
		return mergeRequest(rest[:i]+"#"+rest[i+1:], "#")
	}
	return []Thing{{Ledger, "", e.Subject}}
}

// object is what a row or entry of an object on a target is about: the Application that it belongs to, and, if it is a Secret,
// that too. The key is [CLUSTER|]GROUP/KIND:NAMESPACE/NAME.
func object(key, application string) []Thing {
	things := one("Application", application)
	_, name, _ := strings.Cut(key, ":")
	kind := key[strings.IndexByte(before(key, ":"), '/')+1:]
	if kind = before(kind, ":"); kind == "Secret" {
		things = append(things, one(kind, name)...)
	}
	return things
}

// one is the thing that a key names, NAMESPACE/NAME.
func one(kind, key string) []Thing {
	if key == "" {
		return []Thing{{kind, unknown, unknown}}
	}
	namespace, name, _ := strings.Cut(key, "/")
	return []Thing{{kind, namespace, name}}
}

// mergeRequest is the one that a key names: REPOSITORY, the sign, NUMBER.
func mergeRequest(key, sign string) []Thing {
	i := strings.LastIndex(key, sign)
	if i < 0 {
		return []Thing{{MergeRequest, "", unknown}}
	}
	return []Thing{{MergeRequest, "", key[:i] + "!" + key[i+len(sign):]}}
}

// firstTwo are the first two parts of a key.
func firstTwo(key string) string {
	all := strings.SplitN(key, "/", 3)
	return strings.Join(all[:min(2, len(all))], "/")
}

func before(s, sign string) string { first, _, _ := strings.Cut(s, sign); return first }

func withoutLast(s string) string {
	if i := strings.LastIndexByte(s, '/'); i >= 0 {
		return s[:i]
	}
	return s
}
