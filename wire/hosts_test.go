package wire

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/executor/local"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
)

// opened is a server that is open and does not serve, so that nothing happens behind the test's back.
func opened(t *testing.T, o Options) *Server {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: not tested: a server opens the local executor, which needs root")
	}
	if o.Data == "" {
		o.Data = t.TempDir()
	}
	if o.AllowEgress == nil { // servers of tests are on loopback
		o.AllowEgress = []egress.Rule{{Addresses: netip.MustParsePrefix("127.0.0.0/8")}}
	}
	o.Listen, o.Log = "127.0.0.1:0", slog.New(slog.DiscardHandler)
	if o.Network.Bridge == "" && !o.Network.Disabled {
		// Of the test's own, so that it can run beside servers of this machine.
		n := os.Getpid()
		o.Network = local.Network{Bridge: fmt.Sprintf("tpt%d", n%1e6), Subnet: fmt.Sprintf("10.%d.%d.0/24", 200+n/128%50, n%128*2)}
	}
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

const plainWorkflow = `apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: NAME, annotations: {ANNOTATION}}
spec:
  entrypoint: main
  templates:
  - name: main
    metadata: {annotations: {TEMPLATE}}
    container: {image: alpine, command: [make], args: ["{{workflow.name}}"]}
`

func workflowOf(t *testing.T, name, annotation, template string) manifest.Object {
	t.Helper()
	text := strings.NewReplacer("NAME", name, "ANNOTATION", annotation, "TEMPLATE", template).Replace(plainWorkflow)
	objects, diags := manifest.Decode("w.yaml", []byte(text))
	if manifest.Failed(diags) {
		t.Fatal(diags)
	}
	return objects[0]
}

// received records an event as if it had been delivered.
func received(t *testing.T, s *Server, e event.Event) int64 {
	t.Helper()
	var rec ledger.Ref
	err := s.machine.Ledger.Write(t.Context(), ledger.On(event.Subject(e)), func(tx ledger.Tx) (err error) {
		rec, err = tx.Append(ledger.Draft{Actor: "system", Kind: event.KindReceived, Subject: event.Subject(e), Body: event.Received{Event: e}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return rec.Seq()
}

// onHost gives the host executor to two repositories and to administrators.
func onHost() []podpolicy.Grant {
	return []podpolicy.Grant{
		{To: podpolicy.To{Repositories: []string{"harbour", "gitlab.example.org/team/*"}}, Executors: []string{"host"}},
		{To: podpolicy.To{Roles: []string{"admin"}}, Executors: []string{"host"}},
	}
}

// The host executor needs a grant, which merge requests have by name only and forks never, and the refusal stands at submission with its place
// and what to write (docs/security.md).
func TestHostExecutorNeedsAGrant(t *testing.T) {
	s := opened(t, Options{Executor: local.NameHost, Grants: onHost()})
	push := func(forge, instance, repo, verified string, pr *event.PullRequest) int64 {
		typ := forge
		if forge == "tiphys" {
			typ = "git"
		}
		return received(t, s, event.Event{
			ID: fmt.Sprintf("e%s%s%v", repo, verified, pr), Type: typ, Namespace: "default", Source: "git", Subject: "x", Verified: verified,
			Git: &event.Git{Forge: forge, Instance: instance, Kind: "push", Repo: event.Repo{FullName: repo}, PR: pr},
		})
	}
	harbour := push("tiphys", "localhost:1", "harbour", "none", nil)
	fort := push("tiphys", "localhost:1", "fort", "none", nil)
	request := push("tiphys", "localhost:1", "harbour", "local", &event.PullRequest{Number: 8})
	fork := push("tiphys", "localhost:1", "harbour", "local", &event.PullRequest{Number: 7, Fork: true, SourceRepo: "mallory/harbour"})
	claimed := push("gitlab", "https://gitlab.example.org", "team/a", "none", nil)
	proved := push("gitlab", "https://gitlab.example.org", "team/a", "token", nil)
	namesake := push("gitlab", "https://gitlab.example.org", "harbour", "token", nil)
	calendar := received(t, s, event.Event{ID: "tick", Type: "calendar", Namespace: "default", Source: "c", Subject: "c", Verified: "local"})
	webhook := received(t, s, event.Event{ID: "ring", Type: "webhook", Namespace: "default", Source: "door", Subject: "c", Verified: "none"})
	for _, c := range []struct {
		what                 string
		sub                  runs.Submission
		annotation, template string
		want                 string // part of the refusal; empty for taken
	}{
		{what: "by an administrator", sub: runs.Submission{Role: access.Admin}},
		{what: "by a developer", sub: runs.Submission{Role: access.Developer}, want: "to: {roles: [developer]}, executors: [host]"},
		{what: "by somebody without a role", sub: runs.Submission{}, want: "to: {namespaces: [default]}"},
		{what: "of the folder's schedule", sub: runs.Submission{Origin: "folder"}},
		{what: "of a schedule that was declared over the API", sub: runs.Submission{Origin: "api"}, want: "roles: [developer]"},
		{what: "of a schedule that a sensor declared", sub: runs.Submission{Origin: "sensor:default/x"}, want: "made by sensor:default/x"},
		{what: "of a calendar", sub: runs.Submission{Event: calendar, Origin: "folder"}},
		{what: "of a webhook without a secret", sub: runs.Submission{Event: webhook, Origin: "folder"}, want: "nobody proved"},
		{what: "granted", sub: runs.Submission{Event: harbour}},
		{what: "not granted", sub: runs.Submission{Event: fort}, want: "to: {repositories: [fort]}, executors: [host]"},
		{what: "not granted, though an administrator's hand is in it", sub: runs.Submission{Event: fort, Role: access.Admin}, want: "repositories: [fort]"},
		{what: "not granted, in containers", sub: runs.Submission{Event: fort}, annotation: "tiphys.dev/executor: container"},
		{what: "not granted, one template on the host", sub: runs.Submission{Event: fort},
			annotation: "tiphys.dev/executor: container", template: "tiphys.dev/executor: host", want: "repositories: [fort]"},
		{what: "a merge request of one that is", sub: runs.Submission{Event: request}, want: "to: {repositories: [harbour], mergeRequests: true}"},
		{what: "a fork of one that is", sub: runs.Submission{Event: fork}, want: "comes from a fork (mallory/harbour)"},
		{what: "a fork's event among others", sub: runs.Submission{Event: calendar, Events: []int64{fork, calendar}}, want: "fork"},
		{what: "elsewhere, claimed", sub: runs.Submission{Event: claimed}, want: "nobody proved"},
		{what: "elsewhere, proved", sub: runs.Submission{Event: proved}},
		{what: "a namesake elsewhere", sub: runs.Submission{Event: namesake}, want: "repositories: [gitlab.example.org/harbour]"},
		{what: "its manifest from another repository", sub: runs.Submission{Event: harbour, Source: "http://tiphys.localhost/git/fort.git"}, want: "repositories: [fort, harbour]"},
		{what: "its manifest from elsewhere", sub: runs.Submission{Source: "git@gitlab.example.org:other/x.git"}, want: "repositories: [gitlab.example.org/other/x]"},
		{what: "its manifest from a folder above", sub: runs.Submission{Source: "https://gitlab.example.org/team/../fort.git"}, want: "is not granted to"},
		{what: "its manifest from a folder above, escaped", sub: runs.Submission{Source: "https://gitlab.example.org/team/%2e%2e/fort.git"}, want: "is not granted to"},
		{what: "its manifest from a host that looks like another", sub: runs.Submission{Source: "https://evil.example#@gitlab.example.org/team/x"}, want: "is not granted to"},
		{what: "its manifest from no URL", sub: runs.Submission{Source: "https://ada:pw@gitlab.example.org:port/team/x"}, want: "is not granted to"},
		{what: "its manifest from a granted one", sub: runs.Submission{Source: "https://ada:pw@gitlab.example.org/team/x.git"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			c.sub.Object = workflowOf(t, "w-"+strings.NewReplacer(" ", "-", ",", "").Replace(c.what), c.annotation, c.template)
			run, err := s.machine.Runs.Submit(t.Context(), c.sub)
			if c.want == "" {
				if err != nil {
					t.Errorf("it is taken: %v", err)
				}
				return
			}
			var invalid *workflow.InvalidError
			if !errors.As(err, &invalid) || !strings.Contains(err.Error(), c.want) || invalid.Diagnostics[0].Position.Line == 0 {
				t.Errorf("it is refused with its place and %q: %v (run %q)", c.want, err, run.Name)
			}
			if err != nil && strings.Contains(err.Error(), "pw") {
				t.Errorf("the refusal shows a password: %v", err)
			}
		})
	}
}

// A run that hides its wish until a pod is made is refused then, by whom it is for.
func TestHostExecutorIsRefusedToWhatShowsLater(t *testing.T) {
	s := opened(t, Options{Grants: onHost()})
	fort := received(t, s, event.Event{
		ID: "e", Type: "git", Namespace: "default", Source: "git", Subject: "fort",
		Git: &event.Git{Forge: "tiphys", Kind: "push", Repo: event.Repo{FullName: "fort"}},
	})
	marker := filepath.Join(t.TempDir(), "reached")
	objects, diags := manifest.Decode("w.yaml", []byte(`apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: late}
spec:
  entrypoint: main
  arguments: {parameters: [{name: way, value: host}]}
  podMetadata: {annotations: {tiphys.dev/executor: "{{workflow.parameters.way}}"}}
  templates:
  - name: main
    volumes: [{name: out, hostPath: {path: `+filepath.Dir(marker)+`}}]
    container: {image: alpine, command: [touch, /out/reached], volumeMounts: [{name: out, mountPath: /out}]}
`))
	if manifest.Failed(diags) {
		t.Fatal(diags)
	}
	s.machine.Start(t.Context())
	if _, err := s.machine.Runs.Submit(t.Context(), runs.Submission{Object: objects[0], Event: fort}); err != nil {
		t.Fatal(err)
	}
	run, err := s.machine.Runs.Wait(t.Context(), "default", "late")
	if err != nil || run.Phase != workflow.Error || !strings.Contains(run.Message, "repositories: [fort]") {
		t.Errorf("it is refused: %s %q %v", run.Phase, run.Message, err)
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("it reached this machine's files")
	}
}
