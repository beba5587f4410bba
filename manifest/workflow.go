package manifest

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// APIVersion of every Argo kind.
const APIVersion = "argoproj.io/v1alpha1"

// Workflow is one run as a user writes it (Argo Workflows 3.x and 4.x).
type Workflow struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              WorkflowSpec `json:"spec"`
	// Status is kept as it came: an object that already has one is foreign.
	Status map[string]any `json:"status,omitempty"`
}

// WorkflowTemplate is a library of templates that can be submitted too; ClusterWorkflowTemplate has the same shape.
type WorkflowTemplate struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              WorkflowSpec `json:"spec"`
}

// CronWorkflow submits a workflow by schedule.
type CronWorkflow struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              CronWorkflowSpec `json:"spec"`
}

// CronWorkflowSpec follows Argo; Schedule is the 3.x form of Schedules.
type CronWorkflowSpec struct {
	WorkflowSpec               WorkflowSpec       `json:"workflowSpec"`
	WorkflowMetadata           *metav1.ObjectMeta `json:"workflowMetadata,omitempty"`
	Schedule                   string             `json:"schedule,omitempty"`
	Schedules                  []string           `json:"schedules,omitempty"`
	Timezone                   string             `json:"timezone,omitempty"`
	ConcurrencyPolicy          string             `json:"concurrencyPolicy,omitempty"`
	StartingDeadlineSeconds    *int64             `json:"startingDeadlineSeconds,omitempty"`
	Suspend                    bool               `json:"suspend,omitempty"`
	SuccessfulJobsHistoryLimit *int32             `json:"successfulJobsHistoryLimit,omitempty"`
	FailedJobsHistoryLimit     *int32             `json:"failedJobsHistoryLimit,omitempty"`
	StopStrategy               *StopStrategy      `json:"stopStrategy,omitempty"`
	When                       string             `json:"when,omitempty"`
}

// StopStrategy ends a schedule for good.
type StopStrategy struct {
	Expression string `json:"expression,omitempty"`
	Condition  string `json:"condition,omitempty"`
}

// WorkflowSpec is the spec of Workflow, WorkflowTemplate and CronWorkflow.workflowSpec.
type WorkflowSpec struct {
	Entrypoint  string     `json:"entrypoint,omitempty"`
	Templates   []Template `json:"templates,omitempty"`
	Arguments   Arguments  `json:"arguments,omitempty"`
	OnExit      string     `json:"onExit,omitempty"`
	Hooks       Hooks      `json:"hooks,omitempty"`
	Suspend     *bool      `json:"suspend,omitempty"`
	Shutdown    string     `json:"shutdown,omitempty"`
	Parallelism *int64     `json:"parallelism,omitempty"`
	Priority    *int32     `json:"priority,omitempty"`

	WorkflowTemplateRef   *WorkflowTemplateRef   `json:"workflowTemplateRef,omitempty"`
	TemplateDefaults      *Template              `json:"templateDefaults,omitempty"`
	RetryStrategy         *RetryStrategy         `json:"retryStrategy,omitempty"`
	Synchronization       *Synchronization       `json:"synchronization,omitempty"`
	ActiveDeadlineSeconds *int64                 `json:"activeDeadlineSeconds,omitempty"`
	TTLStrategy           *TTLStrategy           `json:"ttlStrategy,omitempty"`
	PodGC                 *PodGC                 `json:"podGC,omitempty"`
	ArtifactGC            *ArtifactGC            `json:"artifactGC,omitempty"`
	ArtifactRepositoryRef *ArtifactRepositoryRef `json:"artifactRepositoryRef,omitempty"`
	ArchiveLogs           *bool                  `json:"archiveLogs,omitempty"`
	WorkflowMetadata      *WorkflowMetadata      `json:"workflowMetadata,omitempty"`
	PodMetadata           *Metadata              `json:"podMetadata,omitempty"`
	Metrics               *Metrics               `json:"metrics,omitempty"`

	Volumes              []corev1.Volume                `json:"volumes,omitempty"`
	VolumeClaimTemplates []corev1.PersistentVolumeClaim `json:"volumeClaimTemplates,omitempty"`
	VolumeClaimGC        *VolumeClaimGC                 `json:"volumeClaimGC,omitempty"`

	// Where and as whom pods run. On one machine these have no effect; docs/compatibility.md lists them.
	ServiceAccountName           string                        `json:"serviceAccountName,omitempty"`
	AutomountServiceAccountToken *bool                         `json:"automountServiceAccountToken,omitempty"`
	Executor                     *ExecutorConfig               `json:"executor,omitempty"`
	PodSpecPatch                 string                        `json:"podSpecPatch,omitempty"`
	NodeSelector                 map[string]string             `json:"nodeSelector,omitempty"`
	Affinity                     *corev1.Affinity              `json:"affinity,omitempty"`
	Tolerations                  []corev1.Toleration           `json:"tolerations,omitempty"`
	SchedulerName                string                        `json:"schedulerName,omitempty"`
	PodPriorityClassName         string                        `json:"podPriorityClassName,omitempty"`
	PodPriority                  *int32                        `json:"podPriority,omitempty"`
	HostNetwork                  *bool                         `json:"hostNetwork,omitempty"`
	DNSPolicy                    *corev1.DNSPolicy             `json:"dnsPolicy,omitempty"`
	DNSConfig                    *corev1.PodDNSConfig          `json:"dnsConfig,omitempty"`
	HostAliases                  []corev1.HostAlias            `json:"hostAliases,omitempty"`
	ImagePullSecrets             []corev1.LocalObjectReference `json:"imagePullSecrets,omitempty"`
	SecurityContext              *corev1.PodSecurityContext    `json:"securityContext,omitempty"`
	PodDisruptionBudget          map[string]any                `json:"podDisruptionBudget,omitempty"`
	PodResources                 *corev1.ResourceRequirements  `json:"podResources,omitempty"`
	ResourceClaims               []corev1.PodResourceClaim     `json:"resourceClaims,omitempty"`
	ExecutorPlugins              []map[string]any              `json:"executorPlugins,omitempty"`
}

// Template is one reusable unit of a workflow: exactly one of the types below.
type Template struct {
	// Tree is what the template was decoded from, tags and all: the engine replaces tags in it and decodes again.
	Tree *Tree `json:"-"`

	Name string `json:"name,omitempty"`

	// The types.
	Container    *corev1.Container     `json:"container,omitempty"`
	Script       *ScriptTemplate       `json:"script,omitempty"`
	Steps        []ParallelSteps       `json:"steps,omitempty"`
	DAG          *DAGTemplate          `json:"dag,omitempty"`
	Suspend      *SuspendTemplate      `json:"suspend,omitempty"`
	Resource     *ResourceTemplate     `json:"resource,omitempty"`
	HTTP         *HTTPTemplate         `json:"http,omitempty"`
	ContainerSet *ContainerSetTemplate `json:"containerSet,omitempty"`
	Data         *DataTemplate         `json:"data,omitempty"`
	Plugin       map[string]any        `json:"plugin,omitempty"`

	Inputs  Inputs  `json:"inputs,omitempty"`
	Outputs Outputs `json:"outputs,omitempty"`

	// How it runs.
	RetryStrategy *RetryStrategy `json:"retryStrategy,omitempty"`
	// ActiveDeadlineSeconds and Timeout may hold tags.
	ActiveDeadlineSeconds *AnyString       `json:"activeDeadlineSeconds,omitempty"`
	Timeout               string           `json:"timeout,omitempty"`
	PendingTimeout        string           `json:"pendingTimeout,omitempty"`
	Parallelism           *int64           `json:"parallelism,omitempty"`
	FailFast              *bool            `json:"failFast,omitempty"`
	Daemon                *bool            `json:"daemon,omitempty"`
	Synchronization       *Synchronization `json:"synchronization,omitempty"`
	Memoize               *Memoize         `json:"memoize,omitempty"`
	Metrics               *Metrics         `json:"metrics,omitempty"`

	// The pod.
	InitContainers  []UserContainer   `json:"initContainers,omitempty"`
	Sidecars        []UserContainer   `json:"sidecars,omitempty"`
	Volumes         []corev1.Volume   `json:"volumes,omitempty"`
	ArchiveLocation *ArtifactLocation `json:"archiveLocation,omitempty"`
	Metadata        Metadata          `json:"metadata,omitempty"`
	Annotations     map[string]string `json:"annotations,omitempty"`
	PodSpecPatch    string            `json:"podSpecPatch,omitempty"`

	ServiceAccountName           string                       `json:"serviceAccountName,omitempty"`
	AutomountServiceAccountToken *bool                        `json:"automountServiceAccountToken,omitempty"`
	Executor                     *ExecutorConfig              `json:"executor,omitempty"`
	NodeSelector                 map[string]string            `json:"nodeSelector,omitempty"`
	Affinity                     *corev1.Affinity             `json:"affinity,omitempty"`
	Tolerations                  []corev1.Toleration          `json:"tolerations,omitempty"`
	SchedulerName                string                       `json:"schedulerName,omitempty"`
	PriorityClassName            string                       `json:"priorityClassName,omitempty"`
	Priority                     *int32                       `json:"priority,omitempty"`
	HostAliases                  []corev1.HostAlias           `json:"hostAliases,omitempty"`
	SecurityContext              *corev1.PodSecurityContext   `json:"securityContext,omitempty"`
	PodResources                 *corev1.ResourceRequirements `json:"podResources,omitempty"`
	ResourceClaims               []corev1.PodResourceClaim    `json:"resourceClaims,omitempty"`
}

// UserContainer is a container beside main, with Argo's mirrorVolumeMounts.
type UserContainer struct {
	corev1.Container   `json:",inline"`
	MirrorVolumeMounts *bool `json:"mirrorVolumeMounts,omitempty"`
}

// ScriptTemplate is a container whose source is staged as a file.
type ScriptTemplate struct {
	corev1.Container `json:",inline"`
	Source           string `json:"source"`
}

// ParallelSteps run together. YAML may write a group as a list or as one step.
type ParallelSteps []WorkflowStep

// WorkflowStep is one step of a steps template.
type WorkflowStep struct {
	Name         string       `json:"name,omitempty"`
	Template     string       `json:"template,omitempty"`
	Inline       *Template    `json:"inline,omitempty"`
	Arguments    Arguments    `json:"arguments,omitempty"`
	TemplateRef  *TemplateRef `json:"templateRef,omitempty"`
	WithItems    WithItems    `json:"withItems,omitempty"`
	WithParam    string       `json:"withParam,omitempty"`
	WithSequence *Sequence    `json:"withSequence,omitempty"`
	When         string       `json:"when,omitempty"`
	ContinueOn   *ContinueOn  `json:"continueOn,omitempty"`
	OnExit       string       `json:"onExit,omitempty"`
	Hooks        Hooks        `json:"hooks,omitempty"`
}

// DAGTemplate is a graph of tasks.
type DAGTemplate struct {
	Target   string    `json:"target,omitempty"`
	Tasks    []DAGTask `json:"tasks"`
	FailFast *bool     `json:"failFast,omitempty"`
}

// DAGTask is one task of a dag template.
type DAGTask struct {
	Name         string       `json:"name"`
	Template     string       `json:"template,omitempty"`
	Inline       *Template    `json:"inline,omitempty"`
	Arguments    Arguments    `json:"arguments,omitempty"`
	TemplateRef  *TemplateRef `json:"templateRef,omitempty"`
	Dependencies []string     `json:"dependencies,omitempty"`
	Depends      string       `json:"depends,omitempty"`
	WithItems    WithItems    `json:"withItems,omitempty"`
	WithParam    string       `json:"withParam,omitempty"`
	WithSequence *Sequence    `json:"withSequence,omitempty"`
	When         string       `json:"when,omitempty"`
	ContinueOn   *ContinueOn  `json:"continueOn,omitempty"`
	OnExit       string       `json:"onExit,omitempty"`
	Hooks        Hooks        `json:"hooks,omitempty"`
}

// WithItems is a list of scalars, maps or lists; a string holds a tag that becomes such a list.
type WithItems []any

// Hooks are lifecycle hooks by name; "exit" is the exit handler.
type Hooks map[string]LifecycleHook

// LifecycleHook runs a template when Expression becomes true.
type LifecycleHook struct {
	Template    string       `json:"template,omitempty"`
	Arguments   Arguments    `json:"arguments,omitempty"`
	TemplateRef *TemplateRef `json:"templateRef,omitempty"`
	Expression  string       `json:"expression,omitempty"`
}

// TemplateRef names a template of another object.
type TemplateRef struct {
	Name         string `json:"name,omitempty"`
	Template     string `json:"template,omitempty"`
	ClusterScope bool   `json:"clusterScope,omitempty"`
}

// WorkflowTemplateRef names an object whose spec is run.
type WorkflowTemplateRef struct {
	Name         string `json:"name,omitempty"`
	ClusterScope bool   `json:"clusterScope,omitempty"`
}

// Sequence is withSequence: count, or start to end.
type Sequence struct {
	Count  *AnyString `json:"count,omitempty"`
	Start  *AnyString `json:"start,omitempty"`
	End    *AnyString `json:"end,omitempty"`
	Format string     `json:"format,omitempty"`
}

// ContinueOn lets a group go on after a failure.
type ContinueOn struct {
	Error  bool `json:"error,omitempty"`
	Failed bool `json:"failed,omitempty"`
}

// SuspendTemplate waits for a person, or for Duration (seconds or a Go duration).
type SuspendTemplate struct {
	Duration AnyString `json:"duration,omitempty"`
}

// ResourceTemplate acts on a Kubernetes object.
type ResourceTemplate struct {
	Action            string         `json:"action"`
	MergeStrategy     string         `json:"mergeStrategy,omitempty"`
	Manifest          string         `json:"manifest,omitempty"`
	ManifestFrom      map[string]any `json:"manifestFrom,omitempty"`
	SetOwnerReference bool           `json:"setOwnerReference,omitempty"`
	SuccessCondition  string         `json:"successCondition,omitempty"`
	FailureCondition  string         `json:"failureCondition,omitempty"`
	Flags             []string       `json:"flags,omitempty"`
}

// HTTPTemplate makes one request.
type HTTPTemplate struct {
	Method             string          `json:"method,omitempty"`
	URL                string          `json:"url"`
	Headers            []HTTPHeader    `json:"headers,omitempty"`
	TimeoutSeconds     *int64          `json:"timeoutSeconds,omitempty"`
	SuccessCondition   string          `json:"successCondition,omitempty"`
	Body               string          `json:"body,omitempty"`
	BodyFrom           *HTTPBodySource `json:"bodyFrom,omitempty"`
	InsecureSkipVerify bool            `json:"insecureSkipVerify,omitempty"`
}

// HTTPHeader is a header of an HTTP template or artifact.
type HTTPHeader struct {
	Name      string            `json:"name"`
	Value     string            `json:"value,omitempty"`
	ValueFrom *HTTPHeaderSource `json:"valueFrom,omitempty"`
}

// HTTPHeaderSource takes a header from a Secret.
type HTTPHeaderSource struct {
	SecretKeyRef *corev1.SecretKeySelector `json:"secretKeyRef,omitempty"`
}

// HTTPBodySource is a body in bytes.
type HTTPBodySource struct {
	Bytes []byte `json:"bytes,omitempty"`
}

// ContainerSetTemplate is several containers in one pod.
type ContainerSetTemplate struct {
	Containers    []ContainerNode      `json:"containers"`
	VolumeMounts  []corev1.VolumeMount `json:"volumeMounts,omitempty"`
	RetryStrategy map[string]any       `json:"retryStrategy,omitempty"`
}

// ContainerNode is one container of a set.
type ContainerNode struct {
	corev1.Container `json:",inline"`
	Dependencies     []string `json:"dependencies,omitempty"`
}

// DataTemplate lists artifacts and transforms the list.
type DataTemplate struct {
	Source         DataSource       `json:"source"`
	Transformation []Transformation `json:"transformation,omitempty"`
}

// DataSource is where the list comes from: the keys below an artifact's key.
type DataSource struct {
	ArtifactPaths *Artifact `json:"artifactPaths,omitempty"`
}

// Transformation is one step from a list to another value, an expression (expr-lang) over "data".
type Transformation struct {
	Expression string `json:"expression"`
}

// Arguments are given to a template or workflow.
type Arguments struct {
	Parameters []Parameter `json:"parameters,omitempty"`
	Artifacts  []Artifact  `json:"artifacts,omitempty"`
}

// Inputs are what a template takes.
type Inputs struct {
	Parameters []Parameter `json:"parameters,omitempty"`
	Artifacts  []Artifact  `json:"artifacts,omitempty"`
}

// Outputs are what a template leaves. Result and ExitCode occur in a status only.
type Outputs struct {
	Parameters []Parameter `json:"parameters,omitempty"`
	Artifacts  []Artifact  `json:"artifacts,omitempty"`
	Result     *string     `json:"result,omitempty"`
	ExitCode   *string     `json:"exitCode,omitempty"`
}

// Parameter is a named string.
type Parameter struct {
	Name        string      `json:"name"`
	Default     *AnyString  `json:"default,omitempty"`
	Value       *AnyString  `json:"value,omitempty"`
	ValueFrom   *ValueFrom  `json:"valueFrom,omitempty"`
	GlobalName  string      `json:"globalName,omitempty"`
	Enum        []AnyString `json:"enum,omitempty"`
	Description *AnyString  `json:"description,omitempty"`
}

// ValueFrom is where a parameter's value comes from.
type ValueFrom struct {
	Path            string                       `json:"path,omitempty"`
	JSONPath        string                       `json:"jsonPath,omitempty"`
	JQFilter        string                       `json:"jqFilter,omitempty"`
	Event           string                       `json:"event,omitempty"`
	Parameter       string                       `json:"parameter,omitempty"`
	Supplied        *struct{}                    `json:"supplied,omitempty"`
	ConfigMapKeyRef *corev1.ConfigMapKeySelector `json:"configMapKeyRef,omitempty"`
	Default         *AnyString                   `json:"default,omitempty"`
	Expression      string                       `json:"expression,omitempty"`
}

// Artifact is a named file or folder.
type Artifact struct {
	Name             string `json:"name"`
	Path             string `json:"path,omitempty"`
	Mode             *int32 `json:"mode,omitempty"`
	From             string `json:"from,omitempty"`
	FromExpression   string `json:"fromExpression,omitempty"`
	ArtifactLocation `json:",inline"`
	GlobalName       string           `json:"globalName,omitempty"`
	Archive          *ArchiveStrategy `json:"archive,omitempty"`
	Optional         bool             `json:"optional,omitempty"`
	SubPath          string           `json:"subPath,omitempty"`
	RecurseMode      bool             `json:"recurseMode,omitempty"`
	ArtifactGC       *ArtifactGC      `json:"artifactGC,omitempty"`
	Deleted          bool             `json:"deleted,omitempty"`
}

// ArtifactLocation is where an artifact is; at most one of the fields.
type ArtifactLocation struct {
	ArchiveLogs *bool           `json:"archiveLogs,omitempty"`
	S3          *S3Artifact     `json:"s3,omitempty"`
	Git         *GitArtifact    `json:"git,omitempty"`
	HTTP        *HTTPArtifact   `json:"http,omitempty"`
	Raw         *RawArtifact    `json:"raw,omitempty"`
	GCS         *ObjectArtifact `json:"gcs,omitempty"`
	Azure       *ObjectArtifact `json:"azure,omitempty"`
	OSS         *ObjectArtifact `json:"oss,omitempty"`
	HDFS        map[string]any  `json:"hdfs,omitempty"`
	Artifactory map[string]any  `json:"artifactory,omitempty"`
	Plugin      map[string]any  `json:"plugin,omitempty"`
}

// S3Artifact with only Key set is a key in the default store.
type S3Artifact struct {
	Endpoint           string                    `json:"endpoint,omitempty"`
	Bucket             string                    `json:"bucket,omitempty"`
	Region             string                    `json:"region,omitempty"`
	Insecure           *bool                     `json:"insecure,omitempty"`
	AccessKeySecret    *corev1.SecretKeySelector `json:"accessKeySecret,omitempty"`
	SecretKeySecret    *corev1.SecretKeySelector `json:"secretKeySecret,omitempty"`
	SessionTokenSecret *corev1.SecretKeySelector `json:"sessionTokenSecret,omitempty"`
	RoleARN            string                    `json:"roleARN,omitempty"`
	UseSDKCreds        bool                      `json:"useSDKCreds,omitempty"`
	CreateBucket       map[string]any            `json:"createBucketIfNotPresent,omitempty"`
	EncryptionOptions  map[string]any            `json:"encryptionOptions,omitempty"`
	CASecret           *corev1.SecretKeySelector `json:"caSecret,omitempty"`
	AddressingStyle    string                    `json:"addressingStyle,omitempty"`
	Key                string                    `json:"key,omitempty"`
}

// ObjectArtifact is an object of a cloud store that has no driver yet; the fields are kept as they came.
type ObjectArtifact struct {
	Key    string         `json:"key,omitempty"`
	Fields map[string]any `json:"-"`
}

// GitArtifact is a clone.
type GitArtifact struct {
	Repo                  string                    `json:"repo"`
	Revision              string                    `json:"revision,omitempty"`
	Depth                 *uint64                   `json:"depth,omitempty"`
	Fetch                 []string                  `json:"fetch,omitempty"`
	UsernameSecret        *corev1.SecretKeySelector `json:"usernameSecret,omitempty"`
	PasswordSecret        *corev1.SecretKeySelector `json:"passwordSecret,omitempty"`
	SSHPrivateKeySecret   *corev1.SecretKeySelector `json:"sshPrivateKeySecret,omitempty"`
	InsecureIgnoreHostKey bool                      `json:"insecureIgnoreHostKey,omitempty"`
	InsecureSkipTLS       bool                      `json:"insecureSkipTLS,omitempty"`
	DisableSubmodules     bool                      `json:"disableSubmodules,omitempty"`
	SingleBranch          bool                      `json:"singleBranch,omitempty"`
	Branch                string                    `json:"branch,omitempty"`
}

// HTTPArtifact is fetched with GET and saved with PUT.
type HTTPArtifact struct {
	URL                      string         `json:"url"`
	Headers                  []HTTPHeader   `json:"headers,omitempty"`
	Auth                     map[string]any `json:"auth,omitempty"`
	SaveStreamViaFile        *bool          `json:"saveStreamViaFile,omitempty"`
	InsecureSkipTLS          bool           `json:"insecureSkipTLS,omitempty"`
	FollowTemporaryRedirects *bool          `json:"followTemporaryRedirects,omitempty"`
}

// RawArtifact is its own content.
type RawArtifact struct {
	Data string `json:"data"`
}

// ArchiveStrategy says how a saved artifact is encoded; the default is tar with gzip.
type ArchiveStrategy struct {
	Tar  *TarStrategy `json:"tar,omitempty"`
	None *struct{}    `json:"none,omitempty"`
	Zip  *struct{}    `json:"zip,omitempty"`
}

// TarStrategy has gzip's compression level; 0 means a plain tar.
type TarStrategy struct {
	CompressionLevel *int32 `json:"compressionLevel,omitempty"`
}

// ArtifactGC says when artifacts are deleted.
type ArtifactGC struct {
	Strategy              string    `json:"strategy,omitempty"`
	PodMetadata           *Metadata `json:"podMetadata,omitempty"`
	ServiceAccountName    string    `json:"serviceAccountName,omitempty"`
	ForceFinalizerRemoval bool      `json:"forceFinalizerRemoval,omitempty"`
	PodSpecPatch          string    `json:"podSpecPatch,omitempty"`
}

// ArtifactRepositoryRef picks a repository of a ConfigMap.
type ArtifactRepositoryRef struct {
	ConfigMap string `json:"configMap,omitempty"`
	Key       string `json:"key,omitempty"`
}

// RetryStrategy says when a failed node is tried again. Limit nil means without end (Argo).
type RetryStrategy struct {
	Limit       *AnyString     `json:"limit,omitempty"`
	RetryPolicy string         `json:"retryPolicy,omitempty"`
	Backoff     *Backoff       `json:"backoff,omitempty"`
	Affinity    map[string]any `json:"affinity,omitempty"`
	Expression  string         `json:"expression,omitempty"`
}

// Backoff between attempts; durations are seconds or Go durations.
type Backoff struct {
	Duration    AnyString  `json:"duration,omitempty"`
	Factor      *AnyString `json:"factor,omitempty"`
	MaxDuration AnyString  `json:"maxDuration,omitempty"`
	Cap         AnyString  `json:"cap,omitempty"`
}

// Synchronization lists locks. Mutex and Semaphore are the 3.x forms.
type Synchronization struct {
	Semaphore  *SemaphoreRef  `json:"semaphore,omitempty"`
	Mutex      *MutexRef      `json:"mutex,omitempty"`
	Semaphores []SemaphoreRef `json:"semaphores,omitempty"`
	Mutexes    []MutexRef     `json:"mutexes,omitempty"`
}

// SemaphoreRef takes its limit from a ConfigMap.
type SemaphoreRef struct {
	ConfigMapKeyRef *corev1.ConfigMapKeySelector `json:"configMapKeyRef,omitempty"`
	Namespace       string                       `json:"namespace,omitempty"`
	Database        *DatabaseLock                `json:"database,omitempty"`
}

// DatabaseLock names a lock kept in a database; the ledger's lock table is ours.
type DatabaseLock struct {
	Key string `json:"key,omitempty"`
}

// MutexRef names a mutex.
type MutexRef struct {
	Name      string `json:"name,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Database  bool   `json:"database,omitempty"`
}

// Memoize reuses outputs.
type Memoize struct {
	Key    string        `json:"key"`
	MaxAge string        `json:"maxAge,omitempty"`
	Cache  *MemoizeCache `json:"cache,omitempty"`
}

// MemoizeCache names the cache.
type MemoizeCache struct {
	ConfigMap corev1.ConfigMapKeySelector `json:"configMap"`
}

// Metadata of pods.
type Metadata struct {
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// WorkflowMetadata is put on the run.
type WorkflowMetadata struct {
	Labels      map[string]string         `json:"labels,omitempty"`
	Annotations map[string]string         `json:"annotations,omitempty"`
	LabelsFrom  map[string]LabelValueFrom `json:"labelsFrom,omitempty"`
}

// LabelValueFrom computes a label.
type LabelValueFrom struct {
	Expression string `json:"expression"`
}

// TTLStrategy deletes the object some time after its end, in seconds.
type TTLStrategy struct {
	SecondsAfterCompletion *int32 `json:"secondsAfterCompletion,omitempty"`
	SecondsAfterSuccess    *int32 `json:"secondsAfterSuccess,omitempty"`
	SecondsAfterFailure    *int32 `json:"secondsAfterFailure,omitempty"`
}

// PodGC says when pods are deleted.
type PodGC struct {
	Strategy            string                `json:"strategy,omitempty"`
	LabelSelector       *metav1.LabelSelector `json:"labelSelector,omitempty"`
	DeleteDelayDuration string                `json:"deleteDelayDuration,omitempty"`
}

// VolumeClaimGC says when claims made from templates are deleted.
type VolumeClaimGC struct {
	Strategy string `json:"strategy,omitempty"`
}

// ExecutorConfig names the executor's service account.
type ExecutorConfig struct {
	ServiceAccountName string `json:"serviceAccountName,omitempty"`
}

// Metrics are custom metrics.
type Metrics struct {
	Prometheus []Prometheus `json:"prometheus,omitempty"`
}

// Prometheus is one custom metric.
type Prometheus struct {
	Name      string         `json:"name"`
	Labels    []MetricLabel  `json:"labels,omitempty"`
	Help      string         `json:"help,omitempty"`
	When      string         `json:"when,omitempty"`
	Gauge     map[string]any `json:"gauge,omitempty"`
	Histogram map[string]any `json:"histogram,omitempty"`
	Counter   map[string]any `json:"counter,omitempty"`
}

// MetricLabel is a label of a custom metric.
type MetricLabel struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}
