package story

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// The parts of the API's answers that the story looks at (docs/api.md).
type (
	gitPart struct {
		Kind   string `json:"kind"`
		Action string `json:"action"`
		Branch string `json:"branch"`
		Tag    string `json:"tag"`
		SHA    string `json:"sha"`
	}
	eventPart struct {
		ID    string   `json:"id"`
		Type  string   `json:"type"`
		Seq   int64    `json:"seq"`
		Actor string   `json:"actor"`
		Git   *gitPart `json:"git"`
	}
	decisionPart struct {
		Sensor    string   `json:"sensor"`
		Trigger   string   `json:"trigger"`
		Outcome   string   `json:"outcome"`
		Reason    string   `json:"reason"`
		Satisfied []string `json:"satisfied"`
		Missing   []string `json:"missing"`
	}
	runPart struct {
		Namespace string            `json:"namespace"`
		Name      string            `json:"name"`
		Phase     string            `json:"phase"`
		Message   string            `json:"message"`
		Progress  string            `json:"progress"`
		Failed    string            `json:"failed"`
		Labels    map[string]string `json:"labels"`
	}
	nodePart struct {
		ID          string    `json:"id"`
		DisplayName string    `json:"displayName"`
		Template    string    `json:"templateName"`
		Type        string    `json:"type"`
		Phase       string    `json:"phase"`
		Message     string    `json:"message"`
		StartedAt   time.Time `json:"startedAt"`
		FinishedAt  time.Time `json:"finishedAt"`
	}
	appPart struct {
		Name   string `json:"name"`
		Sync   string `json:"sync"`
		Health struct {
			Status  string `json:"status"`
			Message string `json:"message"`
		} `json:"health"`
		Version string            `json:"version"`
		Commit  string            `json:"commit"`
		MR      int               `json:"mr"`
		Images  map[string]string `json:"images"`
		Sources map[string]string `json:"sources"`
		URLs    []string          `json:"urls"`
		Deleted bool              `json:"deleted"`
	}
	resourcePart struct {
		Kind   string `json:"kind"`
		Name   string `json:"name"`
		Health struct {
			Status  string `json:"status"`
			Message string `json:"message"`
		} `json:"health"`
		Info      string    `json:"info"`
		CreatedAt time.Time `json:"createdAt"`
	}
	appDetail struct {
		App       appPart        `json:"app"`
		Resources []resourcePart `json:"resources"`
		Problems  []string       `json:"problems"`
	}
	releasePart struct {
		Name   string            `json:"name"`
		Number int64             `json:"number"`
		Commit string            `json:"commit"`
		Branch string            `json:"branch"`
		MR     int               `json:"mr"`
		Images map[string]string `json:"images"`
	}
	mrPart struct {
		MR struct {
			Number int      `json:"number"`
			State  string   `json:"state"`
			Head   string   `json:"headSHA"`
			Merge  string   `json:"mergeSHA"`
			Labels []string `json:"labels"`
		} `json:"mr"`
		Statuses []struct {
			Context     string `json:"context"`
			State       string `json:"state"`
			Description string `json:"description"`
		} `json:"statuses"`
		Comments []struct {
			Body string `json:"body"`
		} `json:"comments"`
	}
	items[T any] struct {
		Items []T `json:"items"`
	}
)

// Screen is the UI's address.
func (w *World) Screen() string { return w.screen("/") }

// screen is the address of one of the UI's pages.
func (w *World) screen(path string) string { return "http://localhost:" + w.port + path }

// site is the address of an application.
func (w *World) site(name string) string { return "http://" + w.host(name) + ":" + w.port + "/" }

func (w *World) host(name string) string { return name + "." + w.o.Names.Repo + ".localhost" }

// run waits for the run of a commit to be made, and then for its success; short tells its progress.
func (w *World) run(ctx context.Context, commit string, mr bool) (runPart, []nodePart, error) {
	var run runPart
	label := url.QueryEscape("tiphys.dev/repo=" + w.o.Names.Repo + ",tiphys.dev/commit=" + commit)
	err := w.Within(ctx, 10*time.Second, "a run was made of commit "+commit[:12], func(ctx context.Context) error {
		var found items[runPart]
		if err := w.Get(ctx, "", "/api/v1/runs?label="+label, &found); err != nil {
			return err
		}
		for _, r := range found.Items {
			if (r.Labels["tiphys.dev/mr"] != "") == mr {
				run = r
				return nil
			}
		}
		return fmt.Errorf("there is none")
	})
	if err != nil {
		return run, nil, err
	}
	var detail struct {
		Run   runPart    `json:"run"`
		Nodes []nodePart `json:"nodes"`
	}
	err = w.Within(ctx, 3*time.Minute, "run "+run.Name+" succeeds", func(ctx context.Context) error {
		if err := w.Get(ctx, "", "/api/v1/runs/"+run.Namespace+"/"+run.Name, &detail); err != nil {
			return err
		}
		switch detail.Run.Phase {
		case "Succeeded":
			return nil
		case "Failed", "Error":
			return final(fmt.Errorf("it is %s: %s%s", detail.Run.Phase, detail.Run.Message, w.whyFailed(ctx, detail.Run, detail.Nodes)))
		}
		return fmt.Errorf("it is %s (%s)", detail.Run.Phase, detail.Run.Progress)
	})
	return detail.Run, detail.Nodes, err
}

// whyFailed is each failed step's message and the end of its log.
func (w *World) whyFailed(ctx context.Context, run runPart, nodes []nodePart) string {
	var b strings.Builder
	for _, n := range nodes {
		if n.Phase != "Failed" && n.Phase != "Error" {
			continue
		}
		fmt.Fprintf(&b, "\n  %s (%s): %s", n.DisplayName, n.Type, n.Message)
		if n.Type != "Pod" {
			continue
		}
		var log string
		if w.Get(ctx, "", "/api/v1/runs/"+run.Namespace+"/"+run.Name+"/log/"+url.PathEscape(n.ID)+"?from=-8", &log) == nil {
			b.WriteString("\n    " + strings.ReplaceAll(strings.TrimSpace(log), "\n", "\n    "))
		}
	}
	return b.String()
}

// app waits until an application runs what holds, whole and healthy.
func (w *World) app(ctx context.Context, name string, limit time.Duration, holds func(appPart) error) (appDetail, error) {
	var d appDetail
	err := w.Within(ctx, limit, "application "+name+" is synced and healthy", func(ctx context.Context) error {
		d = appDetail{}
		if err := w.Get(ctx, "", "/api/v1/apps/default/"+name, &d); err != nil {
			return err
		}
		if d.App.Sync != "Synced" || d.App.Health.Status != "Healthy" {
			text := fmt.Sprintf("it is %s and %s %s", d.App.Sync, d.App.Health.Status, d.App.Health.Message)
			return errors.New(strings.Join(append([]string{text}, d.Problems...), "; "))
		}
		return holds(d.App)
	})
	return d, err
}

// versions asks an environment's page service what runs there.
func (w *World) versions(ctx context.Context, site string) (map[string]string, error) {
	got := map[string]string{}
	err := w.Get(ctx, w.host(site), "/versions", &got)
	return got, err
}

// short is a version as the pipeline writes it.
func short(commit string) string { return commit[:min(12, len(commit))] }

// shows waits until an environment runs the wanted versions.
func (w *World) shows(ctx context.Context, site string, limit time.Duration, want map[string]string) error {
	return w.Within(ctx, limit, w.site(site)+" shows the wanted versions", func(ctx context.Context) error {
		got, err := w.versions(ctx, site)
		if err != nil {
			return err
		}
		for service, commit := range want {
			if got[service] != short(commit) {
				return fmt.Errorf("%s is %q, wanted %s", service, got[service], short(commit))
			}
		}
		return nil
	})
}

// page waits until an environment's page has a text.
func (w *World) page(ctx context.Context, site string, limit time.Duration, texts ...string) error {
	return w.Within(ctx, limit, w.site(site)+" answers", func(ctx context.Context) error {
		var body string
		if err := w.Get(ctx, w.host(site), "/", &body); err != nil {
			return err
		}
		for _, text := range texts {
			if !strings.Contains(body, text) {
				return fmt.Errorf("the page lacks %q", text)
			}
		}
		return nil
	})
}
