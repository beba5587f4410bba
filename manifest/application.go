package manifest

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Application is what runs where, by Argo CD's API. Its field semantics are those of Argo CD 3.6.
type Application struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              ApplicationSpec `json:"spec"`
	// Operation asks for one sync, as the top-level field of Argo CD does.
	Operation *Operation `json:"operation,omitempty"`
	// Status is kept as it came; the ledger holds ours.
	Status map[string]any `json:"status,omitempty"`
}

// ApplicationSpec is the wish of an [Application].
type ApplicationSpec struct {
	Project     string      `json:"project,omitempty"`
	Destination Destination `json:"destination"`
	// Source or Sources; where both are given Sources win.
	Source            *ApplicationSource  `json:"source,omitempty"`
	Sources           []ApplicationSource `json:"sources,omitempty"`
	SourceHydrator    json.RawMessage     `json:"sourceHydrator,omitempty"`
	SyncPolicy        *SyncPolicy         `json:"syncPolicy,omitempty"`
	IgnoreDifferences []IgnoreDifference  `json:"ignoreDifferences,omitempty"`
	Info              []ApplicationInfo   `json:"info,omitempty"`
	// RevisionHistoryLimit is accepted and has no effect: the ledger keeps every revision.
	RevisionHistoryLimit *int64 `json:"revisionHistoryLimit,omitempty"`
}

// Destination is exactly one of Server or Name, and a namespace for objects that have none.
type Destination struct {
	Server    string `json:"server,omitempty"`
	Name      string `json:"name,omitempty"`
	Namespace string `json:"namespace,omitempty"`
}

// ApplicationSource is where manifests come from and how they are rendered.
type ApplicationSource struct {
	RepoURL        string           `json:"repoURL"`
	Path           string           `json:"path,omitempty"`
	TargetRevision string           `json:"targetRevision,omitempty"`
	Chart          string           `json:"chart,omitempty"`
	Ref            string           `json:"ref,omitempty"`
	Name           string           `json:"name,omitempty"`
	TagPrefix      string           `json:"tagPrefix,omitempty"`
	Directory      *DirectorySource `json:"directory,omitempty"`
	Kustomize      *KustomizeSource `json:"kustomize,omitempty"`
	// Helm and Plugin are kept as they came, to be refused by name.
	Helm   json.RawMessage `json:"helm,omitempty"`
	Plugin json.RawMessage `json:"plugin,omitempty"`
}

// DirectorySource renders plain YAML and JSON files, and Jsonnet.
type DirectorySource struct {
	Recurse bool `json:"recurse,omitempty"`
	// Include and Exclude are globs over the path within the source; "{a,b}" lists alternatives.
	Include string         `json:"include,omitempty"`
	Exclude string         `json:"exclude,omitempty"`
	Jsonnet *JsonnetSource `json:"jsonnet,omitempty"`
	// DisableExtensionFilter takes files of any name, not only those that end as manifests do.
	DisableExtensionFilter bool `json:"disableExtensionFilter,omitempty"`
}

// IsZero reports whether nothing was asked for.
func (d *DirectorySource) IsZero() bool {
	return d == nil || (!d.Recurse && d.Include == "" && d.Exclude == "" && d.Jsonnet.IsZero() && !d.DisableExtensionFilter)
}

// JsonnetSource is what the Jsonnet files of a directory are given: external variables, arguments of the top level, and
// folders of the repository that imports are looked for in.
type JsonnetSource struct {
	ExtVars []JsonnetVar `json:"extVars,omitempty"`
	TLAs    []JsonnetVar `json:"tlas,omitempty"`
	Libs    []string     `json:"libs,omitempty"`
}

// IsZero reports whether nothing was asked for.
func (j *JsonnetSource) IsZero() bool {
	return j == nil || len(j.ExtVars)+len(j.TLAs)+len(j.Libs) == 0
}

// JsonnetVar is a text, or with Code an expression.
type JsonnetVar struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Code  bool   `json:"code,omitempty"`
}

// KustomizeSource are changes put over a kustomization.
type KustomizeSource struct {
	NamePrefix             string            `json:"namePrefix,omitempty"`
	NameSuffix             string            `json:"nameSuffix,omitempty"`
	Namespace              string            `json:"namespace,omitempty"`
	Images                 []string          `json:"images,omitempty"`
	CommonLabels           map[string]string `json:"commonLabels,omitempty"`
	CommonAnnotations      map[string]string `json:"commonAnnotations,omitempty"`
	LabelWithoutSelector   bool              `json:"labelWithoutSelector,omitempty"`
	LabelIncludeTemplates  bool              `json:"labelIncludeTemplates,omitempty"`
	ForceCommonLabels      bool              `json:"forceCommonLabels,omitempty"`
	ForceCommonAnnotations bool              `json:"forceCommonAnnotations,omitempty"`
	Replicas               []KustomizeCount  `json:"replicas,omitempty"`
	Patches                []KustomizePatch  `json:"patches,omitempty"`
	Components             []string          `json:"components,omitempty"`
	// CommonAnnotationsEnvsubst has $ARGOCD_APP_NAME and its kin replaced in the values of CommonAnnotations.
	CommonAnnotationsEnvsubst bool `json:"commonAnnotationsEnvsubst,omitempty"`
	// IgnoreMissingComponents leaves out Components that are not in the repository.
	IgnoreMissingComponents bool `json:"ignoreMissingComponents,omitempty"`
	// Version, KubeVersion and APIVersions choose tools that there is only one of here; they have no effect.
	Version     string   `json:"version,omitempty"`
	KubeVersion string   `json:"kubeVersion,omitempty"`
	APIVersions []string `json:"apiVersions,omitempty"`
}

// IsZero reports whether nothing was asked for.
func (k *KustomizeSource) IsZero() bool {
	if k == nil {
		return true
	}
	b, err := json.Marshal(k)
	return err == nil && string(b) == "{}"
}

// KustomizeCount sets the replicas of the workload with a name.
type KustomizeCount struct {
	Name  string    `json:"name"`
	Count AnyString `json:"count"`
}

// KustomizePatch is one patch with its target selector.
type KustomizePatch struct {
	Path    string           `json:"path,omitempty"`
	Patch   string           `json:"patch,omitempty"`
	Target  *KustomizeTarget `json:"target,omitempty"`
	Options map[string]bool  `json:"options,omitempty"`
}

// KustomizeTarget selects what a patch is for.
type KustomizeTarget struct {
	Group              string `json:"group,omitempty"`
	Version            string `json:"version,omitempty"`
	Kind               string `json:"kind,omitempty"`
	Name               string `json:"name,omitempty"`
	Namespace          string `json:"namespace,omitempty"`
	LabelSelector      string `json:"labelSelector,omitempty"`
	AnnotationSelector string `json:"annotationSelector,omitempty"`
}

// SyncPolicy says when and how an Application is synced.
type SyncPolicy struct {
	Automated                *AutomatedSync     `json:"automated,omitempty"`
	SyncOptions              []string           `json:"syncOptions,omitempty"`
	Retry                    *SyncRetry         `json:"retry,omitempty"`
	ManagedNamespaceMetadata *NamespaceMetadata `json:"managedNamespaceMetadata,omitempty"`
}

// AutomatedSync syncs without being asked. Nil Enabled means true.
type AutomatedSync struct {
	Enabled    *bool `json:"enabled,omitempty"`
	Prune      bool  `json:"prune,omitempty"`
	SelfHeal   bool  `json:"selfHeal,omitempty"`
	AllowEmpty bool  `json:"allowEmpty,omitempty"`
}

// IsAutomated reports whether the policy asks for automated sync.
func (p *SyncPolicy) IsAutomated() bool {
	return p != nil && p.Automated != nil && (p.Automated.Enabled == nil || *p.Automated.Enabled)
}

// SyncRetry repeats a failed sync. Limit -1 is for ever.
type SyncRetry struct {
	Limit   int64        `json:"limit,omitempty"`
	Backoff *SyncBackoff `json:"backoff,omitempty"`
	// Refresh is accepted: the newest commit always supersedes here.
	Refresh bool `json:"refresh,omitempty"`
}

// SyncBackoff is the wait between retries; Go durations or seconds. Defaults 5s, 2, 3m.
type SyncBackoff struct {
	Duration    string `json:"duration,omitempty"`
	Factor      *int64 `json:"factor,omitempty"`
	MaxDuration string `json:"maxDuration,omitempty"`
}

// NamespaceMetadata is put on the namespace that CreateNamespace=true makes.
type NamespaceMetadata struct {
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// IgnoreDifference names fields that are not compared. Group, Kind, Name and Namespace accept globs.
type IgnoreDifference struct {
	Group                 string   `json:"group,omitempty"`
	Kind                  string   `json:"kind"`
	Name                  string   `json:"name,omitempty"`
	Namespace             string   `json:"namespace,omitempty"`
	JSONPointers          []string `json:"jsonPointers,omitempty"`
	JQPathExpressions     []string `json:"jqPathExpressions,omitempty"`
	ManagedFieldsManagers []string `json:"managedFieldsManagers,omitempty"`
}

// ApplicationInfo is shown beside an Application.
type ApplicationInfo struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Operation is a requested sync.
type Operation struct {
	Sync        *SyncOperation    `json:"sync,omitempty"`
	InitiatedBy *Initiator        `json:"initiatedBy,omitempty"`
	Info        []ApplicationInfo `json:"info,omitempty"`
	Retry       *SyncRetry        `json:"retry,omitempty"`
}

// Initiator is who asked for an [Operation].
type Initiator struct {
	Username  string `json:"username,omitempty"`
	Automated bool   `json:"automated,omitempty"`
}

// SyncOperation is the sync that was asked for.
type SyncOperation struct {
	Revision    string         `json:"revision,omitempty"`
	Prune       bool           `json:"prune,omitempty"`
	DryRun      bool           `json:"dryRun,omitempty"`
	Resources   []SyncResource `json:"resources,omitempty"`
	SyncOptions []string       `json:"syncOptions,omitempty"`
	// SyncStrategy says how objects are applied.
	SyncStrategy *SyncStrategy `json:"syncStrategy,omitempty"`
	// Revisions, Source, Sources and Manifests would deploy something else than the spec says.
	Revisions []string          `json:"revisions,omitempty"`
	Source    json.RawMessage   `json:"source,omitempty"`
	Sources   []json.RawMessage `json:"sources,omitempty"`
	Manifests []string          `json:"manifests,omitempty"`
	// AutoHealAttemptsCount is Argo CD's own note.
	AutoHealAttemptsCount int64 `json:"autoHealAttemptsCount,omitempty"`
}

// SyncStrategy is one of two: with hooks, the default, or without.
type SyncStrategy struct {
	Apply *SyncStrategyForce `json:"apply,omitempty"`
	Hook  *SyncStrategyForce `json:"hook,omitempty"`
}

// SyncStrategyForce says whether objects may be made anew where they cannot be changed.
type SyncStrategyForce struct {
	Force bool `json:"force,omitempty"`
}

// SyncResource selects one object of a selective sync.
type SyncResource struct {
	Group     string `json:"group,omitempty"`
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
}

// AppProject limits what the Applications of a project may do.
type AppProject struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              AppProjectSpec `json:"spec"`
}

// AppProjectSpec holds globs; an entry with "!" in front denies, and a deny beats any allow. A list of kinds that is empty is
// another than one that is not there: see plan.PermitObjects.
type AppProjectSpec struct {
	Description                     string            `json:"description,omitempty"`
	SourceRepos                     []string          `json:"sourceRepos,omitempty"`
	Destinations                    []Destination     `json:"destinations,omitempty"`
	ClusterResourceWhitelist        []ProjectResource `json:"clusterResourceWhitelist,omitempty"`
	ClusterResourceBlacklist        []ProjectResource `json:"clusterResourceBlacklist,omitempty"`
	NamespaceResourceWhitelist      []ProjectResource `json:"namespaceResourceWhitelist,omitempty"`
	NamespaceResourceBlacklist      []ProjectResource `json:"namespaceResourceBlacklist,omitempty"`
	SourceNamespaces                []string          `json:"sourceNamespaces,omitempty"`
	SyncWindows                     []json.RawMessage `json:"syncWindows,omitempty"`
	Roles                           []ProjectRole     `json:"roles,omitempty"`
	OrphanedResources               json.RawMessage   `json:"orphanedResources,omitempty"`
	DestinationServiceAccounts      []json.RawMessage `json:"destinationServiceAccounts,omitempty"`
	SignatureKeys                   []json.RawMessage `json:"signatureKeys,omitempty"`
	SourceIntegrity                 json.RawMessage   `json:"sourceIntegrity,omitempty"`
	PermitOnlyProjectScopedClusters bool              `json:"permitOnlyProjectScopedClusters,omitempty"`
}

// ProjectResource is a kind that a project allows or denies; all fields accept globs, and no name is every name.
type ProjectResource struct {
	Group string `json:"group"`
	Kind  string `json:"kind"`
	Name  string `json:"name,omitempty"`
}

// ApplicationSet makes Applications from generators.
type ApplicationSet struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              ApplicationSetSpec `json:"spec"`
	Status            map[string]any     `json:"status,omitempty"`
}

// ApplicationSetSpec is the wish of an [ApplicationSet].
type ApplicationSetSpec struct {
	GoTemplate        bool     `json:"goTemplate,omitempty"`
	GoTemplateOptions []string `json:"goTemplateOptions,omitempty"`
	// Generators are kept by name: see [ApplicationSetGenerator].
	Generators                   []ApplicationSetGenerator `json:"generators"`
	Template                     ApplicationTemplate       `json:"template"`
	TemplatePatch                string                    `json:"templatePatch,omitempty"`
	SyncPolicy                   *ApplicationSetSyncPolicy `json:"syncPolicy,omitempty"`
	Strategy                     json.RawMessage           `json:"strategy,omitempty"`
	PreservedFields              json.RawMessage           `json:"preservedFields,omitempty"`
	IgnoreApplicationDifferences json.RawMessage           `json:"ignoreApplicationDifferences,omitempty"`
	ApplyNestedSelectors         bool                      `json:"applyNestedSelectors,omitempty"`
}

// ApplicationTemplate is an Application in which tags stand.
type ApplicationTemplate struct {
	Metadata ApplicationTemplateMeta `json:"metadata"`
	// Spec is kept as it came, because a tag may stand anywhere in it.
	Spec json.RawMessage `json:"spec"`
}

// ApplicationTemplateMeta is the metadata that a template may set.
type ApplicationTemplateMeta struct {
	Name        string            `json:"name,omitempty"`
	Namespace   string            `json:"namespace,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Finalizers  []string          `json:"finalizers,omitempty"`
}

// ApplicationSetSyncPolicy says what a set may do to its Applications. ApplicationsSync is create-only, create-update,
// create-delete or sync (the default).
type ApplicationSetSyncPolicy struct {
	PreserveResourcesOnDeletion bool   `json:"preserveResourcesOnDeletion,omitempty"`
	ApplicationsSync            string `json:"applicationsSync,omitempty"`
}

// ApplicationSetGenerator is one of the generators; those other than List and PullRequest are refused by name.
type ApplicationSetGenerator struct {
	List                    *ListGenerator        `json:"list,omitempty"`
	PullRequest             *PullRequestGenerator `json:"pullRequest,omitempty"`
	Clusters                json.RawMessage       `json:"clusters,omitempty"`
	Git                     json.RawMessage       `json:"git,omitempty"`
	SCMProvider             json.RawMessage       `json:"scmProvider,omitempty"`
	ClusterDecisionResource json.RawMessage       `json:"clusterDecisionResource,omitempty"`
	Matrix                  json.RawMessage       `json:"matrix,omitempty"`
	Merge                   json.RawMessage       `json:"merge,omitempty"`
	Plugin                  json.RawMessage       `json:"plugin,omitempty"`
	// Selector filters the parameter sets, with their parameters flattened to labels.
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// ListGenerator yields its elements as they are.
type ListGenerator struct {
	Elements     []map[string]any     `json:"elements,omitempty"`
	ElementsYAML string               `json:"elementsYaml,omitempty"`
	Template     *ApplicationTemplate `json:"template,omitempty"`
}

// PullRequestGenerator yields the open merge requests of one repository.
type PullRequestGenerator struct {
	GitHub *PullRequestForge `json:"github,omitempty"`
	GitLab *PullRequestForge `json:"gitlab,omitempty"`
	Gitea  *PullRequestForge `json:"gitea,omitempty"`
	// Tiphys is the built-in Git remote; Repo is the repository's name there.
	Tiphys                      *PullRequestForge    `json:"tiphys,omitempty"`
	Bitbucket                   json.RawMessage      `json:"bitbucket,omitempty"`
	BitbucketServer             json.RawMessage      `json:"bitbucketServer,omitempty"`
	AzureDevOps                 json.RawMessage      `json:"azuredevops,omitempty"`
	Filters                     []PullRequestFilter  `json:"filters,omitempty"`
	RequeueAfterSeconds         *int64               `json:"requeueAfterSeconds,omitempty"`
	Values                      map[string]string    `json:"values,omitempty"`
	ContinueOnRepoNotFoundError bool                 `json:"continueOnRepoNotFoundError,omitempty"`
	Template                    *ApplicationTemplate `json:"template,omitempty"`
}

// PullRequestForge names a repository on a forge. GitLab has Project, GitHub and Gitea Owner and Repo.
type PullRequestForge struct {
	API              string     `json:"api,omitempty"`
	Owner            string     `json:"owner,omitempty"`
	Repo             string     `json:"repo,omitempty"`
	Project          string     `json:"project,omitempty"`
	Labels           []string   `json:"labels,omitempty"`
	PullRequestState string     `json:"pullRequestState,omitempty"`
	Insecure         bool       `json:"insecure,omitempty"`
	AppSecretName    string     `json:"appSecretName,omitempty"`
	TokenRef         *SecretRef `json:"tokenRef,omitempty"`
	CARef            *SecretRef `json:"caRef,omitempty"`
}

// SecretRef names one key of a Secret or ConfigMap, in Argo CD's form.
type SecretRef struct {
	SecretName    string `json:"secretName,omitempty"`
	ConfigMapName string `json:"configMapName,omitempty"`
	Key           string `json:"key"`
}

// PullRequestFilter keeps a merge request when all its expressions match; one matching filter is enough.
type PullRequestFilter struct {
	BranchMatch       *string `json:"branchMatch,omitempty"`
	TargetBranchMatch *string `json:"targetBranchMatch,omitempty"`
	TitleMatch        *string `json:"titleMatch,omitempty"`
}
