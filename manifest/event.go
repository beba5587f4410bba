package manifest

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// EventSource says where events come from (Argo Events, and the type gitea of our own). Fields that only shape
// Argo's pods are accepted and have no effect here: all sources live in the one process.
type EventSource struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              EventSourceSpec `json:"spec"`
	Status            map[string]any  `json:"status,omitempty"`
}

// EventSourceSpec has one map per type of source; the map's key is the event name.
type EventSourceSpec struct {
	EventBusName string         `json:"eventBusName,omitempty"`
	Replicas     *int32         `json:"replicas,omitempty"`
	Service      map[string]any `json:"service,omitempty"`
	Template     map[string]any `json:"template,omitempty"`

	Webhook         map[string]WebhookSource         `json:"webhook,omitempty"`
	Calendar        map[string]CalendarSource        `json:"calendar,omitempty"`
	GitHub          map[string]GitHubSource          `json:"github,omitempty"`
	GitLab          map[string]GitLabSource          `json:"gitlab,omitempty"`
	Gitea           map[string]GiteaSource           `json:"gitea,omitempty"`
	Bitbucket       map[string]BitbucketSource       `json:"bitbucket,omitempty"`
	BitbucketServer map[string]BitbucketServerSource `json:"bitbucketserver,omitempty"`
	Generic         map[string]GenericSource         `json:"generic,omitempty"`
	File            map[string]FileSource            `json:"file,omitempty"`
	Resource        map[string]ResourceSource        `json:"resource,omitempty"`

	Minio             map[string]OtherSource `json:"minio,omitempty"`
	AMQP              map[string]OtherSource `json:"amqp,omitempty"`
	Kafka             map[string]OtherSource `json:"kafka,omitempty"`
	MQTT              map[string]OtherSource `json:"mqtt,omitempty"`
	NATS              map[string]OtherSource `json:"nats,omitempty"`
	SNS               map[string]OtherSource `json:"sns,omitempty"`
	SQS               map[string]OtherSource `json:"sqs,omitempty"`
	PubSub            map[string]OtherSource `json:"pubSub,omitempty"`
	HDFS              map[string]OtherSource `json:"hdfs,omitempty"`
	Slack             map[string]OtherSource `json:"slack,omitempty"`
	StorageGrid       map[string]OtherSource `json:"storageGrid,omitempty"`
	AzureEventsHub    map[string]OtherSource `json:"azureEventsHub,omitempty"`
	AzureServiceBus   map[string]OtherSource `json:"azureServiceBus,omitempty"`
	AzureQueueStorage map[string]OtherSource `json:"azureQueueStorage,omitempty"`
	Stripe            map[string]OtherSource `json:"stripe,omitempty"`
	Emitter           map[string]OtherSource `json:"emitter,omitempty"`
	Redis             map[string]OtherSource `json:"redis,omitempty"`
	RedisStream       map[string]OtherSource `json:"redisStream,omitempty"`
	NSQ               map[string]OtherSource `json:"nsq,omitempty"`
	Pulsar            map[string]OtherSource `json:"pulsar,omitempty"`
	SFTP              map[string]OtherSource `json:"sftp,omitempty"`
	Gerrit            map[string]OtherSource `json:"gerrit,omitempty"`
	MNS               map[string]OtherSource `json:"mns,omitempty"`
}

// OtherSource is the configuration of a type that is understood but not run; it is kept as it was written.
type OtherSource map[string]any

// WebhookContext is what every source that is called over HTTP has. Port, URL and the server's certificate are
// accepted: here all webhooks share the one port.
type WebhookContext struct {
	Endpoint         string                    `json:"endpoint,omitempty"`
	Method           string                    `json:"method,omitempty"`
	Port             AnyString                 `json:"port,omitempty"`
	URL              string                    `json:"url,omitempty"`
	ServerCertSecret *corev1.SecretKeySelector `json:"serverCertSecret,omitempty"`
	ServerKeySecret  *corev1.SecretKeySelector `json:"serverKeySecret,omitempty"`
	Metadata         map[string]string         `json:"metadata,omitempty"`
	// AuthSecret is a bearer token that callers must send.
	AuthSecret *corev1.SecretKeySelector `json:"authSecret,omitempty"`
	// MaxPayloadSize in bytes; default 1 MiB.
	MaxPayloadSize *int64 `json:"maxPayloadSize,omitempty"`
	// HMACSecret is a Tiphys addition: the body must carry an HMAC-SHA256 of this secret in HMACHeader
	// (default X-Hub-Signature-256), as hex with or without the prefix "sha256=", or as base64.
	HMACSecret *corev1.SecretKeySelector `json:"hmacSecret,omitempty"`
	HMACHeader string                    `json:"hmacHeader,omitempty"`
}

// EventSourceFilter drops an event unless the expression (expr-lang) over its data is true.
type EventSourceFilter struct {
	Expression string `json:"expression,omitempty"`
}

// WebhookSource is called by anybody.
type WebhookSource struct {
	WebhookContext `json:",inline"`
	Filter         *EventSourceFilter `json:"filter,omitempty"`
}

// CalendarSource makes events by schedule (five-field cron, or @every and its like) or at an interval.
type CalendarSource struct {
	Schedule string `json:"schedule,omitempty"`
	Interval string `json:"interval,omitempty"`
	// ExclusionDates are lines of RFC 5545: EXDATE, and RRULE with the dates to leave out.
	ExclusionDates []string             `json:"exclusionDates,omitempty"`
	Timezone       string               `json:"timezone,omitempty"`
	Metadata       map[string]string    `json:"metadata,omitempty"`
	Persistence    *CalendarPersistence `json:"persistence,omitempty"`
	Filter         *EventSourceFilter   `json:"filter,omitempty"`
}

// CalendarPersistence remembers the last tick over a restart. Here the ledger does, so ConfigMap has no effect.
type CalendarPersistence struct {
	Catchup   *CalendarCatchup `json:"catchup,omitempty"`
	ConfigMap map[string]any   `json:"configMap,omitempty"`
}

// CalendarCatchup makes up for ticks missed while the server was down, as far back as MaxDuration (default 5m).
type CalendarCatchup struct {
	Enabled     bool   `json:"enabled,omitempty"`
	MaxDuration string `json:"maxDuration,omitempty"`
}

// GitHubSource is called by GitHub.
type GitHubSource struct {
	ID                 int64                     `json:"id,omitempty"`
	Webhook            *WebhookContext           `json:"webhook,omitempty"`
	Repositories       []GitHubRepositories      `json:"repositories,omitempty"`
	Organizations      []string                  `json:"organizations,omitempty"`
	Owner              string                    `json:"owner,omitempty"`
	Repository         string                    `json:"repository,omitempty"`
	Events             []string                  `json:"events,omitempty"`
	APIToken           *corev1.SecretKeySelector `json:"apiToken,omitempty"`
	WebhookSecret      *corev1.SecretKeySelector `json:"webhookSecret,omitempty"`
	GitHubApp          *GitHubApp                `json:"githubApp,omitempty"`
	Insecure           bool                      `json:"insecure,omitempty"`
	Active             bool                      `json:"active,omitempty"`
	ContentType        string                    `json:"contentType,omitempty"`
	GitHubBaseURL      string                    `json:"githubBaseURL,omitempty"`
	GitHubUploadURL    string                    `json:"githubUploadURL,omitempty"`
	DeleteHookOnFinish bool                      `json:"deleteHookOnFinish,omitempty"`
	Metadata           map[string]string         `json:"metadata,omitempty"`
	Filter             *EventSourceFilter        `json:"filter,omitempty"`
	PayloadEnrichment  map[string]any            `json:"payloadEnrichment,omitempty"`
}

// GitHubRepositories are repositories of one owner.
type GitHubRepositories struct {
	Owner string   `json:"owner,omitempty"`
	Names []string `json:"names,omitempty"`
}

// GitHubApp names the credentials of a GitHub App.
type GitHubApp struct {
	PrivateKey     *corev1.SecretKeySelector `json:"privateKey,omitempty"`
	AppID          int64                     `json:"appID,omitempty"`
	InstallationID int64                     `json:"installationID,omitempty"`
}

// GitLabSource is called by GitLab. Argo checks SecretToken only where it also creates the hook; here it is
// always checked.
type GitLabSource struct {
	Webhook     *WebhookContext           `json:"webhook,omitempty"`
	Projects    []string                  `json:"projects,omitempty"`
	Groups      []string                  `json:"groups,omitempty"`
	ProjectID   AnyString                 `json:"projectID,omitempty"`
	Events      []string                  `json:"events,omitempty"`
	AccessToken *corev1.SecretKeySelector `json:"accessToken,omitempty"`
	SecretToken *corev1.SecretKeySelector `json:"secretToken,omitempty"`
	// SigningToken is a Tiphys addition: the hook's signing token (Standard Webhooks, whsec_…).
	SigningToken          *corev1.SecretKeySelector `json:"signingToken,omitempty"`
	EnableSSLVerification bool                      `json:"enableSSLVerification,omitempty"`
	GitLabBaseURL         string                    `json:"gitlabBaseURL,omitempty"`
	DeleteHookOnFinish    bool                      `json:"deleteHookOnFinish,omitempty"`
	Metadata              map[string]string         `json:"metadata,omitempty"`
	Filter                *EventSourceFilter        `json:"filter,omitempty"`
}

// GiteaSource is called by Gitea or Forgejo. Argo has no such type; the fields are named after GitHub's.
type GiteaSource struct {
	Webhook       *WebhookContext           `json:"webhook,omitempty"`
	Repositories  []GitHubRepositories      `json:"repositories,omitempty"`
	Organizations []string                  `json:"organizations,omitempty"`
	Events        []string                  `json:"events,omitempty"`
	APIToken      *corev1.SecretKeySelector `json:"apiToken,omitempty"`
	WebhookSecret *corev1.SecretKeySelector `json:"webhookSecret,omitempty"`
	GiteaBaseURL  string                    `json:"giteaBaseURL,omitempty"`
	Metadata      map[string]string         `json:"metadata,omitempty"`
	Filter        *EventSourceFilter        `json:"filter,omitempty"`
}

// BitbucketSource is called by Bitbucket Cloud.
type BitbucketSource struct {
	Webhook        *WebhookContext       `json:"webhook,omitempty"`
	Auth           *BitbucketAuth        `json:"auth,omitempty"`
	Repositories   []BitbucketRepository `json:"repositories,omitempty"`
	Owner          string                `json:"owner,omitempty"`
	RepositorySlug string                `json:"repositorySlug,omitempty"`
	ProjectKey     string                `json:"projectKey,omitempty"`
	Events         []string              `json:"events,omitempty"`
	// WebhookSecret is a Tiphys addition: Argo has no signature check for Bitbucket Cloud.
	WebhookSecret      *corev1.SecretKeySelector `json:"webhookSecret,omitempty"`
	DeleteHookOnFinish bool                      `json:"deleteHookOnFinish,omitempty"`
	Metadata           map[string]string         `json:"metadata,omitempty"`
	Filter             *EventSourceFilter        `json:"filter,omitempty"`
}

// BitbucketAuth is how Argo creates hooks.
type BitbucketAuth struct {
	Basic      *BitbucketBasic           `json:"basic,omitempty"`
	OAuthToken *corev1.SecretKeySelector `json:"oauthToken,omitempty"`
}

// BitbucketBasic is a user name and an app password.
type BitbucketBasic struct {
	Username *corev1.SecretKeySelector `json:"username,omitempty"`
	Password *corev1.SecretKeySelector `json:"password,omitempty"`
}

// BitbucketRepository names a repository of Bitbucket Cloud (Owner) or Server (ProjectKey).
type BitbucketRepository struct {
	Owner          string `json:"owner,omitempty"`
	ProjectKey     string `json:"projectKey,omitempty"`
	RepositorySlug string `json:"repositorySlug,omitempty"`
}

// BitbucketServerSource is called by Bitbucket Server or Data Center.
type BitbucketServerSource struct {
	Webhook                       *WebhookContext           `json:"webhook,omitempty"`
	Projects                      []string                  `json:"projects,omitempty"`
	Repositories                  []BitbucketRepository     `json:"repositories,omitempty"`
	ProjectKey                    string                    `json:"projectKey,omitempty"`
	RepositorySlug                string                    `json:"repositorySlug,omitempty"`
	Events                        []string                  `json:"events,omitempty"`
	AccessToken                   *corev1.SecretKeySelector `json:"accessToken,omitempty"`
	WebhookSecret                 *corev1.SecretKeySelector `json:"webhookSecret,omitempty"`
	BitbucketServerBaseURL        string                    `json:"bitbucketserverBaseURL,omitempty"`
	OneEventPerChange             bool                      `json:"oneEventPerChange,omitempty"`
	SkipBranchRefsChangedOnOpenPR bool                      `json:"skipBranchRefsChangedOnOpenPR,omitempty"`
	CheckInterval                 string                    `json:"checkInterval,omitempty"`
	TLS                           map[string]any            `json:"tls,omitempty"`
	DeleteHookOnFinish            bool                      `json:"deleteHookOnFinish,omitempty"`
	Metadata                      map[string]string         `json:"metadata,omitempty"`
	Filter                        *EventSourceFilter        `json:"filter,omitempty"`
}

// GenericSource is a gRPC server of the user's own in Argo; here its events are posted to us.
type GenericSource struct {
	URL        string                    `json:"url,omitempty"`
	Config     string                    `json:"config,omitempty"`
	Insecure   bool                      `json:"insecure,omitempty"`
	JSONBody   bool                      `json:"jsonBody,omitempty"`
	Metadata   map[string]string         `json:"metadata,omitempty"`
	AuthSecret *corev1.SecretKeySelector `json:"authSecret,omitempty"`
	Filter     *EventSourceFilter        `json:"filter,omitempty"`
}

// FileSource watches a folder.
type FileSource struct {
	EventType       string             `json:"eventType,omitempty"`
	WatchPathConfig WatchPath          `json:"watchPathConfig"`
	Polling         bool               `json:"polling,omitempty"`
	Metadata        map[string]string  `json:"metadata,omitempty"`
	Filter          *EventSourceFilter `json:"filter,omitempty"`
}

// WatchPath is what a FileSource watches.
type WatchPath struct {
	Directory  string `json:"directory,omitempty"`
	Path       string `json:"path,omitempty"`
	PathRegexp string `json:"pathRegexp,omitempty"`
}

// ResourceSource watches Kubernetes objects.
type ResourceSource struct {
	Namespace  string            `json:"namespace,omitempty"`
	Group      string            `json:"group,omitempty"`
	Version    string            `json:"version,omitempty"`
	Resource   string            `json:"resource,omitempty"`
	EventTypes []string          `json:"eventTypes,omitempty"`
	Filter     *ResourceFilter   `json:"filter,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	Cluster    json.RawMessage   `json:"cluster,omitempty"`
}

// ResourceFilter selects objects.
type ResourceFilter struct {
	Prefix      string             `json:"prefix,omitempty"`
	Labels      []ResourceSelector `json:"labels,omitempty"`
	Fields      []ResourceSelector `json:"fields,omitempty"`
	CreatedBy   string             `json:"createdBy,omitempty"`
	AfterStart  bool               `json:"afterStart,omitempty"`
	CreatedTime string             `json:"createdTime,omitempty"`
}

// ResourceSelector is one requirement on a label or field.
type ResourceSelector struct {
	Key       string `json:"key,omitempty"`
	Operation string `json:"operation,omitempty"`
	Value     string `json:"value,omitempty"`
}
