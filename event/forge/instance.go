package forge

import (
	"net/url"
	"path"
	"strings"
)

// Builtin is the name of the instance that is part of the server, TypeBuiltin its type.
const (
	Builtin     = "builtin"
	TypeBuiltin = "tiphys"
)

// NameOf reads the name of an instance where an empty one is the built-in remote.
func NameOf(name string) string {
	if name == "" {
		return Builtin
	}
	return name
}

// Undeclared names a forge that sent an event and is not declared. No instance has such a name.
func Undeclared(kind, address string) string { return kind + undeclared + address }

const undeclared = " at "

// Instance is one forge among several.
type Instance struct {
	// Name is "builtin", or namespace/name of the declaration.
	Name string
	// Type is tiphys, gitlab, github, gitea, bitbucket or bitbucketserver.
	Type string
	// URL is the address that people see, API that of the API, where one is declared.
	URL, API string
	Forge    Forge
	// Addresses tells which of the forge's repositories a URL names.
	Addresses Addresses
	// Local says that what is written to it is an entry of this server's own ledger: it is there, or the ledger is not.
	Local bool
}

// Addresses are those of a forge's repositories.
type Addresses interface {
	// RepositoryOf tells which repository a clone URL or web address names; ok is false for what is elsewhere.
	RepositoryOf(raw string) (repo string, ok bool)
}

// Host is the addresses of a forge at a URL: those that begin with it, by whatever scheme, and git@HOST:PATH.
type Host string

// RepositoryOf implements [Addresses].
func (h Host) RepositoryOf(raw string) (string, bool) {
	base, err := url.Parse(string(h))
	if err != nil || base.Host == "" {
		return "", false
	}
	host, rest := "", ""
	if strings.Contains(raw, "://") {
		u, err := url.Parse(raw)
		if err != nil {
			return "", false
		}
		host, rest = u.Host, u.Path
		if u.Scheme == "ssh" || u.Scheme == "git" { // whose port is another
			host = u.Hostname()
		}
	} else if name, behind, found := strings.Cut(raw, ":"); found { // git@host:path
		host, rest = name[strings.LastIndex(name, "@")+1:], behind
	}
	if !strings.EqualFold(host, base.Host) && !strings.EqualFold(host, base.Hostname()) {
		return "", false
	}
	rest, below := strings.CutPrefix("/"+strings.Trim(rest, "/")+"/", "/"+strings.TrimPrefix(strings.Trim(base.Path, "/")+"/", "/"))
	name := strings.TrimSuffix(strings.Trim(rest, "/"), ".git")
	if !below || name == "" || path.Clean("/"+name) != "/"+name {
		return "", false
	}
	return name, true
}
