package manifest

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Sensor waits for events and fires triggers (Argo Events).
type Sensor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              SensorSpec     `json:"spec"`
	Status            map[string]any `json:"status,omitempty"`
}

// SensorSpec follows Argo. Template, EventBusName, Replicas and RevisionHistoryLimit shape Argo's pods and have
// no effect here, but for the service account in Template, on whose behalf triggers act.
type SensorSpec struct {
	Dependencies         []EventDependency `json:"dependencies,omitempty"`
	Triggers             []Trigger         `json:"triggers,omitempty"`
	Template             *SensorTemplate   `json:"template,omitempty"`
	EventBusName         string            `json:"eventBusName,omitempty"`
	Replicas             *int32            `json:"replicas,omitempty"`
	RevisionHistoryLimit *int32            `json:"revisionHistoryLimit,omitempty"`
	LoggingFields        map[string]string `json:"loggingFields,omitempty"`
	ErrorOnFailedRound   bool              `json:"errorOnFailedRound,omitempty"`
	// Suspend is a Tiphys addition: events are recorded and decided as "suspended", nothing fires.
	Suspend bool `json:"suspend,omitempty"`
}

// SensorTemplate shapes Argo's sensor pod.
type SensorTemplate struct {
	ServiceAccountName string                        `json:"serviceAccountName,omitempty"`
	Metadata           map[string]any                `json:"metadata,omitempty"`
	Container          map[string]any                `json:"container,omitempty"`
	Volumes            []map[string]any              `json:"volumes,omitempty"`
	SecurityContext    map[string]any                `json:"securityContext,omitempty"`
	NodeSelector       map[string]string             `json:"nodeSelector,omitempty"`
	Tolerations        []map[string]any              `json:"tolerations,omitempty"`
	Affinity           map[string]any                `json:"affinity,omitempty"`
	ImagePullSecrets   []corev1.LocalObjectReference `json:"imagePullSecrets,omitempty"`
	Priority           *int32                        `json:"priority,omitempty"`
	PriorityClassName  string                        `json:"priorityClassName,omitempty"`
}

// EventDependency names an event that a Sensor waits for.
type EventDependency struct {
	Name            string          `json:"name,omitempty"`
	EventSourceName string          `json:"eventSourceName,omitempty"`
	EventName       string          `json:"eventName,omitempty"`
	Filters         *EventFilters   `json:"filters,omitempty"`
	Transform       *EventTransform `json:"transform,omitempty"`
	LogicalOperator string          `json:"filtersLogicalOperator,omitempty"`
}

// EventTransform changes an event's data before it is filtered; JQ wins over Script (Lua).
type EventTransform struct {
	JQ     string `json:"jq,omitempty"`
	Script string `json:"script,omitempty"`
}

// EventFilters are evaluated in the order exprs, data, context, time, script.
type EventFilters struct {
	Time                *TimeFilter    `json:"time,omitempty"`
	Context             *ContextFilter `json:"context,omitempty"`
	Data                []DataFilter   `json:"data,omitempty"`
	DataLogicalOperator string         `json:"dataLogicalOperator,omitempty"`
	Exprs               []ExprFilter   `json:"exprs,omitempty"`
	ExprLogicalOperator string         `json:"exprLogicalOperator,omitempty"`
	Script              string         `json:"script,omitempty"`
}

// TimeFilter passes events between Start and Stop (HH:MM:SS), Stop excluded, over midnight where Stop is earlier.
type TimeFilter struct {
	Start    string `json:"start,omitempty"`
	Stop     string `json:"stop,omitempty"`
	Timezone string `json:"timezone,omitempty"`
}

// ContextFilter compares the envelope; ID, Time and SpecVersion are in Argo's schema and are not compared.
type ContextFilter struct {
	ID              string `json:"id,omitempty"`
	Source          string `json:"source,omitempty"`
	SpecVersion     string `json:"specversion,omitempty"`
	Type            string `json:"type,omitempty"`
	DataContentType string `json:"datacontenttype,omitempty"`
	Subject         string `json:"subject,omitempty"`
	Time            string `json:"time,omitempty"`
}

// DataFilter compares one value of the data, found by a gjson path, with any of Value.
type DataFilter struct {
	Path string `json:"path,omitempty"`
	// Type: bool, number, string. A string's Value is an unanchored regular expression.
	Type       string   `json:"type,omitempty"`
	Value      []string `json:"value,omitempty"`
	Comparator string   `json:"comparator,omitempty"`
	Template   string   `json:"template,omitempty"`
}

// ExprFilter evaluates an expression over named values of the data.
type ExprFilter struct {
	Expr   string         `json:"expr,omitempty"`
	Fields []PayloadField `json:"fields,omitempty"`
}

// PayloadField names a value found by a gjson path.
type PayloadField struct {
	Path string `json:"path,omitempty"`
	Name string `json:"name,omitempty"`
}

// Trigger is what a Sensor does.
type Trigger struct {
	Template      *TriggerTemplate   `json:"template,omitempty"`
	Parameters    []TriggerParameter `json:"parameters,omitempty"`
	Policy        *TriggerPolicy     `json:"policy,omitempty"`
	RetryStrategy *EventBackoff      `json:"retryStrategy,omitempty"`
	RateLimit     *RateLimit         `json:"rateLimit,omitempty"`
	AtLeastOnce   bool               `json:"atLeastOnce,omitempty"`
	DLQTrigger    *Trigger           `json:"dlqTrigger,omitempty"`
}

// TriggerTemplate says when and what; one of the types is set.
type TriggerTemplate struct {
	Name            string            `json:"name,omitempty"`
	Conditions      string            `json:"conditions,omitempty"`
	ConditionsReset []ConditionsReset `json:"conditionsReset,omitempty"`

	K8S          *K8STrigger          `json:"k8s,omitempty"`
	ArgoWorkflow *ArgoWorkflowTrigger `json:"argoWorkflow,omitempty"`
	HTTP         *HTTPTrigger         `json:"http,omitempty"`
	Log          *LogTrigger          `json:"log,omitempty"`

	AWSLambda       *OtherTrigger `json:"awsLambda,omitempty"`
	Custom          *OtherTrigger `json:"custom,omitempty"`
	Kafka           *OtherTrigger `json:"kafka,omitempty"`
	NATS            *OtherTrigger `json:"nats,omitempty"`
	Slack           *OtherTrigger `json:"slack,omitempty"`
	OpenWhisk       *OtherTrigger `json:"openWhisk,omitempty"`
	AzureEventHubs  *OtherTrigger `json:"azureEventHubs,omitempty"`
	Pulsar          *OtherTrigger `json:"pulsar,omitempty"`
	AzureServiceBus *OtherTrigger `json:"azureServiceBus,omitempty"`
	Email           *OtherTrigger `json:"email,omitempty"`
}

// Type is the field name of the type that is set ("k8s", "argoWorkflow"…), empty if none is.
func (t *TriggerTemplate) Type() string {
	if t == nil {
		return ""
	}
	for _, c := range []struct {
		name string
		set  bool
	}{
		{"k8s", t.K8S != nil}, {"argoWorkflow", t.ArgoWorkflow != nil}, {"http", t.HTTP != nil}, {"log", t.Log != nil},
		{"awsLambda", t.AWSLambda != nil}, {"custom", t.Custom != nil}, {"kafka", t.Kafka != nil}, {"nats", t.NATS != nil},
		{"slack", t.Slack != nil}, {"openWhisk", t.OpenWhisk != nil}, {"azureEventHubs", t.AzureEventHubs != nil},
		{"pulsar", t.Pulsar != nil}, {"azureServiceBus", t.AzureServiceBus != nil}, {"email", t.Email != nil},
	} {
		if c.set {
			return c.name
		}
	}
	return ""
}

// OtherTrigger is the configuration of a type that is understood but not run; it is kept as it was written.
type OtherTrigger map[string]any

// ConditionsReset forgets at certain times which dependencies were satisfied.
type ConditionsReset struct {
	ByTime *ResetByTime `json:"byTime,omitempty"`
}

// ResetByTime is a five-field cron schedule.
type ResetByTime struct {
	Cron     string `json:"cron,omitempty"`
	Timezone string `json:"timezone,omitempty"`
}

// K8STrigger creates, changes or deletes an object.
type K8STrigger struct {
	Source *TriggerSource `json:"source,omitempty"`
	// Operation: create (default), update, patch, delete.
	Operation     string             `json:"operation,omitempty"`
	Parameters    []TriggerParameter `json:"parameters,omitempty"`
	PatchStrategy string             `json:"patchStrategy,omitempty"`
	LiveObject    bool               `json:"liveObject,omitempty"`
	Group         string             `json:"group,omitempty"`
	Version       string             `json:"version,omitempty"`
	Resource      string             `json:"resource,omitempty"`
}

// ArgoWorkflowTrigger does something to a workflow.
type ArgoWorkflowTrigger struct {
	Source *TriggerSource `json:"source,omitempty"`
	// Operation: submit (default), submit-from, suspend, retry, resume, resubmit, terminate, stop.
	Operation  string             `json:"operation,omitempty"`
	Parameters []TriggerParameter `json:"parameters,omitempty"`
	Args       []string           `json:"args,omitempty"`
	Group      string             `json:"group,omitempty"`
	Version    string             `json:"version,omitempty"`
	Resource   string             `json:"resource,omitempty"`
}

// TriggerSource is where the object of a trigger is found; one is set.
type TriggerSource struct {
	Resource  json.RawMessage              `json:"resource,omitempty"`
	Inline    string                       `json:"inline,omitempty"`
	File      *TriggerFile                 `json:"file,omitempty"`
	URL       *TriggerURL                  `json:"url,omitempty"`
	ConfigMap *corev1.ConfigMapKeySelector `json:"configmap,omitempty"`
	Git       *TriggerGit                  `json:"git,omitempty"`
	S3        map[string]any               `json:"s3,omitempty"`
}

// TriggerFile is a file of this machine.
type TriggerFile struct {
	Path string `json:"path,omitempty"`
}

// TriggerURL is fetched by HTTP.
type TriggerURL struct {
	Path       string `json:"path,omitempty"`
	VerifyCert bool   `json:"verifycert,omitempty"`
}

// TriggerGit is a file of a Git repository.
type TriggerGit struct {
	URL                   string                    `json:"url,omitempty"`
	CloneDirectory        string                    `json:"cloneDirectory,omitempty"`
	Creds                 *TriggerGitCreds          `json:"creds,omitempty"`
	SSHKeySecret          *corev1.SecretKeySelector `json:"sshKeySecret,omitempty"`
	FilePath              string                    `json:"filePath,omitempty"`
	Branch                string                    `json:"branch,omitempty"`
	Tag                   string                    `json:"tag,omitempty"`
	Ref                   string                    `json:"ref,omitempty"`
	Remote                *TriggerGitRemote         `json:"remote,omitempty"`
	InsecureIgnoreHostKey bool                      `json:"insecureIgnoreHostKey,omitempty"`
}

// TriggerGitCreds are a user name and password.
type TriggerGitCreds struct {
	Username *corev1.SecretKeySelector `json:"username,omitempty"`
	Password *corev1.SecretKeySelector `json:"password,omitempty"`
}

// TriggerGitRemote is another remote to fetch from.
type TriggerGitRemote struct {
	Name string   `json:"name,omitempty"`
	URLs []string `json:"urls,omitempty"`
}

// HTTPTrigger sends a request.
type HTTPTrigger struct {
	URL            string             `json:"url,omitempty"`
	Payload        []TriggerParameter `json:"payload,omitempty"`
	TLS            *TLSConfig         `json:"tls,omitempty"`
	Method         string             `json:"method,omitempty"`
	Parameters     []TriggerParameter `json:"parameters,omitempty"`
	Timeout        int64              `json:"timeout,omitempty"` // seconds; default 60
	BasicAuth      *BitbucketBasic    `json:"basicAuth,omitempty"`
	Headers        map[string]string  `json:"headers,omitempty"`
	SecureHeaders  []SecureHeader     `json:"secureHeaders,omitempty"`
	DynamicHeaders []TriggerParameter `json:"dynamicHeaders,omitempty"`
	Host           string             `json:"host,omitempty"`
}

// TLSConfig is what a client needs for TLS beyond the authorities that this machine trusts. A client's certificate needs
// its key.
type TLSConfig struct {
	CACertSecret       *corev1.SecretKeySelector `json:"caCertSecret,omitempty"`
	ClientCertSecret   *corev1.SecretKeySelector `json:"clientCertSecret,omitempty"`
	ClientKeySecret    *corev1.SecretKeySelector `json:"clientKeySecret,omitempty"`
	InsecureSkipVerify bool                      `json:"insecureSkipVerify,omitempty"`
}

// SecureHeader is a header whose value is kept elsewhere.
type SecureHeader struct {
	Name      string        `json:"name,omitempty"`
	ValueFrom *HeaderSource `json:"valueFrom,omitempty"`
}

// HeaderSource is where a header's value is.
type HeaderSource struct {
	SecretKeyRef    *corev1.SecretKeySelector    `json:"secretKeyRef,omitempty"`
	ConfigMapKeyRef *corev1.ConfigMapKeySelector `json:"configMapKeyRef,omitempty"`
}

// LogTrigger writes the event to the log.
type LogTrigger struct {
	IntervalSeconds uint64 `json:"intervalSeconds,omitempty"`
}

// TriggerParameter puts a value of an event into a trigger.
type TriggerParameter struct {
	Src *ParameterSource `json:"src,omitempty"`
	// Dest is an sjson path.
	Dest string `json:"dest,omitempty"`
	// Operation: overwrite (default), append, prepend.
	Operation string `json:"operation,omitempty"`
}

// ParameterSource selects a value. Data comes before context, a template before a key, and Value is taken where
// nothing else gives one.
type ParameterSource struct {
	DependencyName  string  `json:"dependencyName,omitempty"`
	ContextKey      string  `json:"contextKey,omitempty"`
	ContextTemplate string  `json:"contextTemplate,omitempty"`
	DataKey         string  `json:"dataKey,omitempty"`
	DataTemplate    string  `json:"dataTemplate,omitempty"`
	Value           *string `json:"value,omitempty"`
	UseRawData      bool    `json:"useRawData,omitempty"`
}

// TriggerPolicy says when a trigger has succeeded.
type TriggerPolicy struct {
	K8S    *K8SPolicy    `json:"k8s,omitempty"`
	Status *StatusPolicy `json:"status,omitempty"`
}

// K8SPolicy waits for labels on the created object.
type K8SPolicy struct {
	Labels                map[string]string `json:"labels,omitempty"`
	Backoff               *EventBackoff     `json:"backoff,omitempty"`
	ErrorOnBackoffTimeout bool              `json:"errorOnBackoffTimeout,omitempty"`
}

// StatusPolicy lists the HTTP statuses that mean success.
type StatusPolicy struct {
	Allow []int32 `json:"allow,omitempty"`
}

// EventBackoff is Argo Events' retry strategy. Duration is Go's notation or nanoseconds.
type EventBackoff struct {
	Duration *AnyString `json:"duration,omitempty"`
	Factor   *AnyString `json:"factor,omitempty"`
	Jitter   *AnyString `json:"jitter,omitempty"`
	Steps    int32      `json:"steps,omitempty"`
}

// RateLimit bounds firings.
type RateLimit struct {
	// Unit: Second, Minute, Hour.
	Unit            string `json:"unit,omitempty"`
	RequestsPerUnit int32  `json:"requestsPerUnit,omitempty"`
}
