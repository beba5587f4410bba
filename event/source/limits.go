package source

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/tiphys/tiphys/manifest"
)

// Limits says by Go type what of an EventSource has no effect and what is refused. docs/compatibility.md is compared with
// it.
func Limits() map[string]manifest.Limit {
	return map[string]manifest.Limit{
		"EventSource": {NoEffect: []string{"status"}},
		"EventSourceSpec": {
			NoEffect: []string{"eventBusName", "replicas", "service", "template"},
			Refused: []string{
				"file", "resource", "minio", "amqp", "kafka", "mqtt", "nats", "sns", "sqs", "pubSub", "hdfs", "slack", "storageGrid",
				"azureEventsHub", "azureServiceBus", "azureQueueStorage", "stripe", "emitter", "redis", "redisStream", "nsq", "pulsar",
				"sftp", "gerrit", "mns",
			},
		},
		"WebhookContext":      {NoEffect: []string{"port", "url", "serverCertSecret", "serverKeySecret"}},
		"CalendarPersistence": {NoEffect: []string{"configMap"}},
		"GitHubSource": {NoEffect: []string{
			"id", "repositories", "organizations", "owner", "repository", "events", "apiToken", "githubApp", "insecure", "active",
			"githubBaseURL", "githubUploadURL", "deleteHookOnFinish", "payloadEnrichment",
		}},
		"GitLabSource": {NoEffect: []string{
			"projects", "groups", "projectID", "events", "accessToken", "enableSSLVerification", "gitlabBaseURL", "deleteHookOnFinish",
		}},
		"GiteaSource": {NoEffect: []string{"repositories", "organizations", "events", "apiToken", "giteaBaseURL"}},
		"BitbucketSource": {NoEffect: []string{
			"auth", "repositories", "owner", "repositorySlug", "projectKey", "events", "deleteHookOnFinish",
		}},
		"BitbucketServerSource": {NoEffect: []string{
			"projects", "repositories", "projectKey", "repositorySlug", "events", "accessToken", "bitbucketserverBaseURL", "oneEventPerChange",
			"skipBranchRefsChangedOnOpenPR", "checkInterval", "tls", "deleteHookOnFinish",
		}},
		"GenericSource": {NoEffect: []string{"url", "config", "insecure"}},
	}
}

func refusal(field string) (message, hint string) {
	return fmt.Sprintf("event source type %q is understood but not run by this version", field), "send its events to a webhook source instead"
}

// Check lists what of an EventSource this program does not do, at its place: errors for what is refused, among it
// filters and calendars that cannot be read, and warnings for what has no effect.
func Check(o manifest.Object) []manifest.Diagnostic {
	var tree any
	read, diagnostics := manifest.Read[manifest.EventSource](o)
	if err := json.Unmarshal(o.Tree.JSON(), &tree); err != nil || manifest.Failed(diagnostics) {
		return nil // the fault is reported where the object is read
	}
	def := read.Value
	found := manifest.Support{Types: Limits(), Refuse: refusal}.Find(reflect.TypeFor[manifest.EventSource](), tree)
	// What making it says besides; what decoding said before, or the list, is not said again.
	known := map[string]bool{}
	for _, d := range append(manifest.ValidateEventSource(&def), found...) {
		known[d.Message] = true
	}
	_, receiver := New(&def, nil, Options{})
	_, calendars := NewCalendars(&def)
	for _, d := range append(receiver, calendars...) {
		if !known[d.Message] {
			found = append(found, d)
		}
	}
	return manifest.Locate(o.Tree, found)
}
