package image

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/tiphys/tiphys/secret"
)

// keychain has the logins of pull secrets, by registry host and optional path.
type keychain map[string]authn.AuthConfig

// newKeychain reads the contents of .dockerconfigjson.
func newKeychain(pullSecrets []secret.Value) (keychain, error) {
	k := keychain{}
	for _, s := range pullSecrets {
		var file struct {
			Auths map[string]struct {
				Username      string `json:"username"`
				Password      string `json:"password"`
				Auth          string `json:"auth"`
				IdentityToken string `json:"identitytoken"`
				RegistryToken string `json:"registrytoken"`
			} `json:"auths"`
		}
		if json.Unmarshal([]byte(s.Reveal()), &file) != nil {
			return nil, errors.New("a pull secret is not JSON; it must have the form of a Docker config.json") // the cause would show the secret
		}
		for host, a := range file.Auths {
			c := authn.AuthConfig{
				Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken,
			}
			if a.Auth != "" {
				b, err := base64.StdEncoding.DecodeString(a.Auth)
				user, password, ok := strings.Cut(string(b), ":")
				if err != nil || !ok {
					return nil, fmt.Errorf("the pull secret's auth for %s is not the base64 of user:password", host)
				}
				c.Username, c.Password = user, strings.TrimRight(password, "\x00")
			}
			k[normalHost(host)] = c
		}
	}
	return k, nil
}

// normalHost takes scheme, API version and Docker Hub's many names out of a key of a Docker config.json.
func normalHost(host string) string {
	if u, err := url.Parse(host); err == nil && u.Host != "" {
		host = u.Host + u.Path
	}
	host = strings.TrimSuffix(host, "/")
	host = strings.TrimSuffix(strings.TrimSuffix(host, "/v1"), "/v2")
	name, rest, slash := strings.Cut(host, "/")
	if name == "docker.io" || name == "registry-1.docker.io" {
		name = "index.docker.io"
	}
	if slash {
		return name + "/" + rest
	}
	return name
}

// Resolve implements [authn.Keychain]: the longest key that is the resource or a folder above it.
func (k keychain) Resolve(r authn.Resource) (authn.Authenticator, error) {
	for name := r.String(); ; {
		if c, ok := k[normalHost(name)]; ok {
			return authn.FromConfig(c), nil
		}
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			return authn.Anonymous, nil
		}
		name = name[:i]
	}
}
