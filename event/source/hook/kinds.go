package hook

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/event/source"
	"github.com/tiphys/tiphys/manifest"
)

// Kinds are those that are called over HTTP: webhook, generic and the forges'.
func Kinds() []source.Kind {
	return []source.Kind{
		kind{name: "webhook", limits: contextLimits(), read: webhook},
		kind{name: "generic", limits: limits("GenericSource", "url", "config", "insecure"), read: generic},
		kind{name: "gitlab", read: gitLab, limits: limits("GitLabSource",
			"projects", "groups", "projectID", "events", "accessToken", "enableSSLVerification", "gitlabBaseURL", "deleteHookOnFinish")},
		kind{name: "github", read: gitHub, limits: limits("GitHubSource",
			"id", "repositories", "organizations", "owner", "repository", "events", "apiToken", "githubApp", "insecure", "active",
			"githubBaseURL", "githubUploadURL", "deleteHookOnFinish", "payloadEnrichment")},
		kind{name: "gitea", read: gitea, limits: limits("GiteaSource", "repositories", "organizations", "events", "apiToken", "giteaBaseURL")},
		kind{name: "bitbucket", read: bitbucket, limits: limits("BitbucketSource",
			"auth", "repositories", "owner", "repositorySlug", "projectKey", "events", "deleteHookOnFinish")},
		kind{name: "bitbucketserver", read: bitbucketServer, limits: limits("BitbucketServerSource",
			"projects", "repositories", "projectKey", "repositorySlug", "events", "accessToken", "bitbucketserverBaseURL", "oneEventPerChange",
			"skipBranchRefsChangedOnOpenPR", "checkInterval", "tls", "deleteHookOnFinish")},
	}
}

// limits are those of one Go type, and of the context of webhooks, which all of these kinds have.
func limits(of string, noEffect ...string) map[string]manifest.Limit {
	l := contextLimits()
	l[of] = manifest.Limit{NoEffect: noEffect}
	return l
}

func contextLimits() map[string]manifest.Limit {
	return map[string]manifest.Limit{"WebhookContext": {NoEffect: []string{"port", "url", "serverCertSecret", "serverKeySecret"}}}
}

// kind is a source.Kind; read gives what the definition of one event says.
type kind struct {
	name   string
	limits map[string]manifest.Limit
	read   func(*manifest.EventSourceSpec, string) settings
}

// settings are what a definition says of one hook.
type settings struct {
	// forge is empty for a hook of no forge.
	forge    string
	context  manifest.WebhookContext
	metadata map[string]string
	filter   *manifest.EventSourceFilter
	// raw says that a body is bytes and not JSON.
	raw bool

	token, signing, hmac, bearer *corev1.SecretKeySelector
}

// Name implements source.Kind.
func (k kind) Name() string { return k.name }

// Limits implements source.Kind.
func (k kind) Limits() map[string]manifest.Limit { return k.limits }

// Check implements source.Kind.
func (k kind) Check(d source.Definition) []manifest.Diagnostic {
	if _, err := source.CompileFilter(k.read(d.Spec, d.Event).filter); err != nil {
		return []manifest.Diagnostic{{Severity: manifest.SeverityError, Path: d.Path(k.name) + ".filter.expression", Message: err.Error()}}
	}
	return nil
}

// Open implements source.Kind.
func (k kind) Open(d source.Definition, tools source.Tools) (source.Source, error) {
	s := k.read(d.Spec, d.Event)
	filter, err := source.CompileFilter(s.filter)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", d.Path(k.name), err)
	}
	if s.bearer == nil {
		s.bearer = s.context.AuthSecret
	}
	if s.hmac == nil {
		s.hmac = s.context.HMACSecret
	}
	return &hook{Definition: d, kind: k.name, settings: s, filter: filter, tools: tools}, nil
}

func contextOf(c *manifest.WebhookContext) manifest.WebhookContext {
	if c == nil {
		return manifest.WebhookContext{}
	}
	return *c
}

func webhook(spec *manifest.EventSourceSpec, name string) settings {
	d := spec.Webhook[name]
	return settings{context: d.WebhookContext, metadata: d.Metadata, filter: d.Filter}
}

func generic(spec *manifest.EventSourceSpec, name string) settings {
	d := spec.Generic[name]
	return settings{metadata: d.Metadata, filter: d.Filter, raw: !d.JSONBody, bearer: d.AuthSecret}
}

func gitLab(spec *manifest.EventSourceSpec, name string) settings {
	d := spec.GitLab[name]
	return settings{forge: forge.GitLab, context: contextOf(d.Webhook), metadata: d.Metadata, filter: d.Filter, token: d.SecretToken, signing: d.SigningToken}
}

func gitHub(spec *manifest.EventSourceSpec, name string) settings {
	d := spec.GitHub[name]
	return settings{forge: forge.GitHub, context: contextOf(d.Webhook), metadata: d.Metadata, filter: d.Filter, hmac: d.WebhookSecret}
}

func gitea(spec *manifest.EventSourceSpec, name string) settings {
	d := spec.Gitea[name]
	return settings{forge: forge.Gitea, context: contextOf(d.Webhook), metadata: d.Metadata, filter: d.Filter, hmac: d.WebhookSecret}
}

func bitbucket(spec *manifest.EventSourceSpec, name string) settings {
	d := spec.Bitbucket[name]
	return settings{forge: forge.Bitbucket, context: contextOf(d.Webhook), metadata: d.Metadata, filter: d.Filter, hmac: d.WebhookSecret}
}

func bitbucketServer(spec *manifest.EventSourceSpec, name string) settings {
	d := spec.BitbucketServer[name]
	return settings{forge: forge.BitbucketServer, context: contextOf(d.Webhook), metadata: d.Metadata, filter: d.Filter, hmac: d.WebhookSecret}
}
