package deploy

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
)

// The tables of this room.
const (
	TableApplication = "application"    // key namespace/name, state its health
	TableSet         = "applicationset" // key namespace/name, state Error or empty
	TableRelease     = "release"        // key Release.RowKey(), owner namespace/name
	TableDeployment  = "deployment"     // key namespace/name/time, owner the application, state current or past
	TableObject      = "object"         // key ObjectRecord.RowKey(), owner the application
)

// The kinds of entries of this room. The body of application.set, application.changed, sync.*, health.changed is an
// [ApplicationEntry], of applicationset.changed a [SetRow], of applicationset.deleted nothing, of release.recorded a [Release], of object.deleted an [ObjectGone], of the other object kinds an
// [ObjectRecord].
const (
	KindApplicationSet     = "application.set"
	KindApplicationDeleted = "application.deleted"
	KindSetChanged         = "applicationset.changed"
	KindSetDeleted         = "applicationset.deleted"
	KindSyncStarted        = "sync.started"
	KindSyncStep           = "sync.step"
	KindSyncFinished       = "sync.finished"
	KindApplicationChanged = "application.changed"
	KindHealthChanged      = "health.changed"
	KindReleaseRecorded    = "release.recorded"
	KindObjectApplied      = "object.applied"
	KindObjectCreated      = "object.created"
	KindObjectChanged      = "object.changed"
	KindObjectDeleting     = "object.deleting"
	KindObjectDeleted      = "object.deleted"
)

// ApplicationRow is the body of a row of the "application" table.
type ApplicationRow struct {
	Namespace   string                   `json:"namespace"`
	Name        string                   `json:"name"`
	UID         string                   `json:"uid"`
	Labels      map[string]string        `json:"labels,omitempty"`
	Annotations map[string]string        `json:"annotations,omitempty"`
	Finalizers  []string                 `json:"finalizers,omitempty"`
	Spec        manifest.ApplicationSpec `json:"spec"`
	// Origin is what made the definition: "folder", "api", "applicationset/ns/name".
	Origin string `json:"origin,omitempty"`
	// Cluster is where it runs, by its name in [Targets]; empty is [InCluster]. Left are clusters where it ran before and has
	// objects still.
	Cluster string   `json:"cluster,omitempty"`
	Left    []string `json:"left,omitempty"`
	// Digest is the definition's content digest.
	Digest  string    `json:"digest,omitempty"`
	Created time.Time `json:"created"`
	// OwnsNamespace says that the manifests have the destination's namespace, which is an object of the Application then.
	OwnsNamespace bool `json:"ownsNamespace,omitempty"`
	// Deleting says that its objects are being removed.
	Deleting bool `json:"deleting,omitempty"`
	// DeletionHooks are the hooks of its deletion, for people: there were some when it was last rendered. Removal is how far a deletion with hooks got
	// (a plan.Operation), and Approved says that somebody confirmed it.
	DeletionHooks []string        `json:"deletionHooks,omitempty"`
	Removal       json.RawMessage `json:"removal,omitempty"`
	Approved      bool            `json:"approved,omitempty"`
	// Sync is Synced, OutOfSync or Unknown; Message says why it is Unknown.
	Sync    string `json:"sync"`
	Message string `json:"message,omitempty"`
	Health  Health `json:"health"`
	// Since is when the health became what it is.
	Since time.Time `json:"since"`
	// Revision is the commit that is deployed, Target the commit that should be.
	Revision string `json:"revision,omitempty"`
	Target   string `json:"target,omitempty"`
	// Release is the release that is deployed: name and number.
	Release string `json:"release,omitempty"`
	// Images are the images that it runs, by service or image name.
	Images map[string]string `json:"images,omitempty"`
	// URLs are where it can be reached.
	URLs []string `json:"urls,omitempty"`
	// MR is the merge request of a preview.
	MR int `json:"mr,omitempty"`
	// Conditions are what somebody should know of it.
	Conditions Conditions `json:"conditions,omitempty"`
	// Problems of the last rendering and planning.
	Problems  []string        `json:"problems,omitempty"`
	Resources json.RawMessage `json:"resources,omitempty"`
	// Operation is the running or last sync (a plan.Operation); Retries and Heals count tries for its revision.
	Operation json.RawMessage `json:"operation,omitempty"`
	Retries   int64           `json:"retries,omitempty"`
	Heals     int64           `json:"heals,omitempty"`
	// Requested is a sync that the definition asks for (a manifest.Operation) and that has not begun.
	Requested json.RawMessage `json:"requested,omitempty"`
	// Asked is the sync that somebody asked for, while it runs or waits for its turn; nil where the policy alone decides.
	Asked *SyncRequest `json:"asked,omitempty"`
	// SyncSeq is the entry that began the operation.
	SyncSeq int64 `json:"syncSeq,omitempty"`
	// Definition is the entry of the last change of the definition.
	Definition int64 `json:"definition,omitempty"`
	// Pinned is a release that a rollback chose; automated sync does not leave it.
	Pinned string `json:"pinned,omitempty"`
	// Current is the key of its open row of the "deployment" table.
	Current string `json:"current,omitempty"`
}

// SyncRequest is a sync that somebody asks for. What a sync would do the comparison shows, so that there is no dry run.
type SyncRequest struct {
	Actor       string                  `json:"actor"`
	Prune       bool                    `json:"prune,omitempty"`
	Resources   []manifest.SyncResource `json:"resources,omitempty"`
	SyncOptions []string                `json:"syncOptions,omitempty"`
	// Confirmed approves prunes that wait for it.
	Confirmed bool `json:"confirmed,omitempty"`
}

// SetRow is the body of a row of the "applicationset" table and of applicationset.changed.
type SetRow struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Digest is the content digest of the definition that was last expanded.
	Digest string `json:"digest,omitempty"`
	// Applications are those that it makes: namespace/name, sorted.
	Applications []string   `json:"applications"`
	Conditions   Conditions `json:"conditions,omitempty"`
}

// Key is namespace/name.
func (s SetRow) Key() string { return s.Namespace + "/" + s.Name }

// Key is namespace/name.
func (a ApplicationRow) Key() string { return a.Namespace + "/" + a.Name }

// ApplicationEntry is the body of entries about an application.
type ApplicationEntry struct {
	Application ApplicationRow `json:"application"`
	// Deployment, if not nil, is what runs from now on.
	Deployment *Deployment `json:"deployment,omitempty"`
}

// Deployment is what an application ran, from when until when.
type Deployment struct {
	Application string `json:"application"` // namespace/name
	// Release names the releases as the application's annotation does: name#number, of another repository name#number@REPOSITORY; empty where
	// the application follows Git alone.
	Release string `json:"release,omitempty"`
	// Releases are those that its images are of; older entries do not say it.
	Releases []ReleaseRef `json:"releases,omitempty"`
	// Version is the tag or the release's number, for people.
	Version string `json:"version,omitempty"`
	Commit  string `json:"commit"`
	Branch  string `json:"branch,omitempty"`
	MR      int    `json:"mr,omitempty"`
	Actor   string `json:"actor,omitempty"`
	// Images are digests by service, Sources the commit of each where it is another than Commit.
	Images  map[string]string `json:"images,omitempty"`
	Sources map[string]string `json:"sources,omitempty"`
	URLs    []string          `json:"urls,omitempty"`
	Since   time.Time         `json:"since"`
	// Until is zero while it runs.
	Until time.Time `json:"until,omitzero"`
	// Deleted says that it ended because the application was deleted.
	Deleted bool `json:"deleted,omitempty"`
	// Seq is the entry of the sync that brought it.
	Seq int64 `json:"seq"`
}

// ObjectRecord is the body of a row of the "object" table: one object on one cluster.
type ObjectRecord struct {
	Key Key `json:"key"`
	// Cluster is where it is; empty is [InCluster].
	Cluster     string `json:"cluster,omitempty"`
	Application string `json:"application,omitempty"`
	// For is for whom its pods are; objects of old ledgers do not say it.
	For podpolicy.Subject `json:"for,omitzero"`
	// Hosts are those of its host names that a project gave to its Application.
	Hosts   []string  `json:"hosts,omitempty"`
	UID     string    `json:"uid"`
	Created time.Time `json:"created"`
	// Cause is the entry of the sync that asked for it.
	Cause int64 `json:"cause,omitempty"`
	// Object is in Kubernetes' shape; a Secret's values are digests.
	Object json.RawMessage `json:"object"`
	// Defaults is the version of the rules by which the object has its defaults; objects of old ledgers lack them.
	Defaults string `json:"defaults,omitempty"`
	// Sealed are a Secret's values, encrypted.
	Sealed []byte `json:"sealed,omitempty"`
	// State is one word: a pod's phase, "Deleting", or empty.
	State string `json:"state,omitempty"`
	// Attempt is the executor's attempt of a pod; RestartAt is when the next one begins, if it waits.
	Attempt   int       `json:"attempt,omitempty"`
	RestartAt time.Time `json:"restartAt,omitzero"`
	// Crashes counts the restarts since the pod last ran for ten minutes; it makes the wait before the next one.
	Crashes int `json:"crashes,omitempty"`
	// Ended says that the pod's attempt has ended for good.
	Ended bool `json:"ended,omitempty"`
}

// ObjectGone is the body of object.deleted. Older entries have none.
type ObjectGone struct {
	// Application is whose it was.
	Application string `json:"application,omitempty"`
	// Note is what went wrong on the way and did not keep it: hooks of a pod that failed.
	Note string `json:"note,omitempty"`
}

// RowKey is the key of its row and, behind "object/", the subject of its entries: group/kind:namespace/name, with the cluster and "|" in
// front where that is another than [InCluster].
func (o ObjectRecord) RowKey() string {
	if o.Cluster == "" || o.Cluster == InCluster {
		return o.Key.String()
	}
	return o.Cluster + "|" + o.Key.String()
}

// Projection derives this room's rows; give it to the ledger at opening.
func Projection() ledger.Projection { return projection{} }

type projection struct{}

var projected = []string{KindSetChanged, KindSetDeleted, KindApplicationSet, KindApplicationDeleted, KindSyncStarted, KindSyncStep, KindSyncFinished, KindApplicationChanged, KindHealthChanged,
	KindReleaseRecorded, KindObjectApplied, KindObjectCreated, KindObjectChanged, KindObjectDeleting, KindObjectDeleted}

// Tables implements ledger.Projection.
func (projection) Tables() []string {
	return []string{TableApplication, TableSet, TableRelease, TableDeployment, TableObject}
}

// Version implements ledger.Projection.
func (projection) Version() int { return 3 }

// Wants implements ledger.Projection.
func (projection) Wants(kind string) bool { return slices.Contains(projected, kind) }

// Apply implements ledger.Projection.
func (projection) Apply(e ledger.Entry, rows ledger.Rows) error {
	switch e.Kind {
	case KindReleaseRecorded:
		return applyRelease(e, rows)
	case KindObjectDeleted:
		return rows.Delete(TableObject, strings.TrimPrefix(e.Subject, "object/"))
	case KindApplicationDeleted:
		return applyDeleted(e, rows)
	case KindSetDeleted:
		return rows.Delete(TableSet, strings.TrimPrefix(e.Subject, "applicationset/"))
	case KindSetChanged:
		return applySet(e, rows)
	}
	if strings.HasPrefix(e.Kind, "object.") {
		return applyObject(e, rows)
	}
	return applyApplication(e, rows)
}

func applyRelease(e ledger.Entry, rows ledger.Rows) error {
	var r Release
	if err := json.Unmarshal(e.Body, &r); err != nil {
		return fmt.Errorf("read release: %w", err)
	}
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write release: %w", err)
	}
	return rows.Put(ledger.Row{Table: TableRelease, Key: r.RowKey(), Owner: r.Namespace + "/" + r.Name, State: r.Branch,
		Time: e.Time, Body: body, Stamp: ledger.Stamp{Field: "seq"}, Labels: map[string]string{"repo": r.Repo, "branch": r.Branch, "commit": r.Commit, "run": r.Run}})
}

func applySet(e ledger.Entry, rows ledger.Rows) error {
	var s SetRow
	if err := json.Unmarshal(e.Body, &s); err != nil {
		return fmt.Errorf("read set of applications: %w", err)
	}
	state := ""
	if len(s.Conditions) > 0 {
		state = "Error"
	}
	return rows.Put(ledger.Row{Table: TableSet, Key: s.Key(), State: state, Time: e.Time, Body: e.Body})
}

func applyObject(e ledger.Entry, rows ledger.Rows) error {
	var o ObjectRecord
	if err := json.Unmarshal(e.Body, &o); err != nil {
		return fmt.Errorf("read object: %w", err)
	}
	return rows.Put(ledger.Row{Table: TableObject, Key: o.RowKey(), Owner: o.Application, State: o.State, Time: o.Created, Body: e.Body,
		Labels: map[string]string{"kind": o.Key.Kind, "namespace": o.Key.Namespace, "cluster": cmp.Or(o.Cluster, InCluster)}})
}

func applyApplication(e ledger.Entry, rows ledger.Rows) error {
	var entry ApplicationEntry
	if err := json.Unmarshal(e.Body, &entry); err != nil {
		return fmt.Errorf("read application: %w", err)
	}
	a := entry.Application
	var err error
	if a.Current, err = currentDeployment(a.Key(), rows); err != nil {
		return err
	}
	if d := entry.Deployment; d != nil {
		if err := closeDeployment(a.Current, e.Time, false, rows); err != nil {
			return err
		}
		d.Application, d.Since = a.Key(), e.Time
		key, err := deploymentKey(a.Key(), e.Time, rows)
		if err != nil {
			return err
		}
		a.Current = key
		if err := putDeployment(a.Current, "current", *d, ledger.Stamp{Field: "seq"}, rows); err != nil {
			return err
		}
	}
	body, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("write application: %w", err)
	}
	labels := map[string]string{"sync": a.Sync, "repo": repoOf(a.Spec)}
	if a.MR != 0 {
		labels["mr"] = strconv.Itoa(a.MR)
	}
	for key, value := range a.Labels {
		labels[key] = value
	}
	return rows.Put(ledger.Row{Table: TableApplication, Key: a.Key(), Owner: a.Origin, State: a.Health.Status, Time: a.Created, Body: body, Labels: labels})
}

func repoOf(s manifest.ApplicationSpec) string {
	if list := s.SourceList(); len(list) > 0 {
		return list[0].RepoURL
	}
	return ""
}

func applyDeleted(e ledger.Entry, rows ledger.Rows) error {
	key := strings.TrimPrefix(e.Subject, "application/")
	row, err := rows.Get(TableApplication, key)
	if err != nil {
		return fmt.Errorf("delete application %s: %w", key, err)
	}
	var a ApplicationRow
	if err := json.Unmarshal(row.Body, &a); err != nil {
		return fmt.Errorf("read application: %w", err)
	}
	if err := closeDeployment(a.Current, e.Time, true, rows); err != nil {
		return err
	}
	return rows.Delete(TableApplication, key)
}

func closeDeployment(key string, at time.Time, deleted bool, rows ledger.Rows) error {
	if key == "" {
		return nil
	}
	row, err := rows.Get(TableDeployment, key)
	if err != nil {
		return fmt.Errorf("close deployment %s: %w", key, err)
	}
	var d Deployment
	if err := json.Unmarshal(row.Body, &d); err != nil {
		return fmt.Errorf("read deployment: %w", err)
	}
	d.Until, d.Deleted = at, deleted
	return putDeployment(key, "past", d, ledger.Stamp{}, rows)
}

// currentDeployment is the open row of an application, as the rows have it: what an entry says may be the key that another version gave it.
func currentDeployment(application string, rows ledger.Rows) (string, error) {
	row, err := rows.Get(TableApplication, application)
	if errors.Is(err, ledger.ErrNotFound) {
		return "", nil
	}
	var a ApplicationRow
	if err == nil {
		err = json.Unmarshal(row.Body, &a)
	}
	if err != nil {
		return "", fmt.Errorf("read application: %w", err)
	}
	return a.Current, nil
}

// deploymentKey is namespace/name/time, in microseconds since 1970 with 16 digits, which is moved where the time is taken.
func deploymentKey(application string, at time.Time, rows ledger.Rows) (string, error) {
	for micros := at.UnixMicro(); ; micros++ {
		key := fmt.Sprintf("%s/%016d", application, micros)
		switch _, err := rows.Get(TableDeployment, key); {
		case errors.Is(err, ledger.ErrNotFound):
			return key, nil
		case err != nil:
			return "", fmt.Errorf("look for deployment %s: %w", key, err)
		}
	}
}

func putDeployment(key, state string, d Deployment, stamp ledger.Stamp, rows ledger.Rows) error {
	body, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("write deployment: %w", err)
	}
	return rows.Put(ledger.Row{Table: TableDeployment, Key: key, Owner: d.Application, State: state, Time: d.Since, Body: body, Stamp: stamp})
}
