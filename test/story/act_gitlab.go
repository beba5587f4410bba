package story

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// delivery is one recorded delivery of GitLab's, with the headers that GitLab sends it with.
type delivery struct{ file, event, uuid string }

// hook is where GitLab was told to send to; token what it was told to send along (tiphys/tides.yaml in the sample).
const (
	hook  = "/webhooks/default/gitlab/tides"
	token = "tides-of-the-demo"
)

// post sends a delivery as GitLab would.
func (w *World) post(ctx context.Context, d delivery, token string) (int, string, error) {
	body, err := os.ReadFile(filepath.Join(w.o.Deliveries, d.file+".json"))
	if err != nil {
		return 0, "", fmt.Errorf("read a recorded delivery: %w", err)
	}
	var code int
	var data []byte
	err = w.tried(ctx, "post "+d.file, func(ctx context.Context) error {
		var err error
		code, data, err = w.Request(ctx, http.MethodPost, "", hook, map[string]string{
			"Content-Type": "application/json", "User-Agent": "GitLab/18.4.1", "X-Gitlab-Instance": "https://gitlab.example.org",
			"X-Gitlab-Event": d.event, "X-Gitlab-Event-UUID": d.uuid, "Idempotency-Key": d.uuid, "X-Gitlab-Webhook-UUID": "0f9c8b1e-tides",
			"X-Gitlab-Token": token,
		}, body)
		return err
	})
	if err != nil {
		return 0, "", err
	}
	var answer struct {
		ID    string `json:"id"`
		Event string `json:"event"`
	}
	_ = json.Unmarshal(data, &answer) // A refusal has no id.
	id := answer.ID
	if id == "" {
		id = answer.Event
	}
	return code, id, nil
}

func (w *World) deliveries(ctx context.Context) error {
	for _, d := range []struct {
		delivery
		reason string
	}{
		{delivery{"push", "Push Hook", "d1c0-push"}, "git.kind"},
		{delivery{"new_branch", "Push Hook", "d1c0-branch"}, "git.kind"},
		{delivery{"merge_request_open", "Merge Request Hook", "d1c0-mr"}, "git.kind"},
	} {
		began := time.Now()
		id, err := w.accepted(ctx, d.delivery)
		if err != nil {
			return err
		}
		got, err := w.decided(ctx, id, "tide-tables", "filtered")
		if err != nil {
			return err
		}
		if err := w.why(ctx, id, "filtered", d.reason); err != nil {
			return err
		}
		w.tell(began, w.screen("/events/"+id), "%s: filtered, because %s", d.event, firstLine([]byte(got.Reason)))
	}
	if err := w.twiceAndWrong(ctx); err != nil {
		return err
	}
	if err := w.half(ctx); err != nil {
		return err
	}
	return w.other(ctx)
}

// accepted posts a delivery and gives its event.
func (w *World) accepted(ctx context.Context, d delivery) (string, error) {
	code, id, err := w.post(ctx, d, token)
	if err != nil {
		return "", err
	}
	if code/100 != 2 || id == "" {
		return "", fmt.Errorf("the delivery %s is taken: it was answered %d (event %q)", d.file, code, id)
	}
	return id, nil
}

// why checks what the command says about an event.
func (w *World) why(ctx context.Context, id string, texts ...string) error {
	return w.tried(ctx, "tiphys why "+id, func(ctx context.Context) error {
		out, err := w.Tiphys(ctx, "why", id)
		if err != nil {
			return err
		}
		for _, text := range texts {
			if !strings.Contains(out, text) {
				return fmt.Errorf("tiphys why %s says %q:\n%s", id, text, out)
			}
		}
		return nil
	})
}

// twiceAndWrong posts a delivery a second time, and one with a wrong token.
func (w *World) twiceAndWrong(ctx context.Context) error {
	began := time.Now()
	push := delivery{"push", "Push Hook", "d1c0-push"}
	first, err := w.accepted(ctx, push)
	if err != nil {
		return err
	}
	again, err := w.accepted(ctx, push)
	if err != nil {
		return err
	}
	if first != again {
		return fmt.Errorf("a delivery that comes twice is one event: it is %s and %s", first, again)
	}
	if n, err := w.count(ctx, "push", "8d20f4c6"); err != nil || n != 1 {
		return errors.Join(err, fmt.Errorf("a delivery that comes twice is one event: there are %d", n))
	}
	w.tell(began, w.screen("/events/"+first), "the push once more: answered as the first time, and recorded once")
	began = time.Now()
	code, _, err := w.post(ctx, delivery{"tag", "Tag Push Hook", "d1c0-forged"}, "a-wrong-token")
	if err != nil {
		return err
	}
	if code != http.StatusUnauthorized && code != http.StatusForbidden {
		return fmt.Errorf("a wrong token is refused: it was answered %d", code)
	}
	if n, err := w.count(ctx, "tag", ""); err != nil || n != 0 {
		return errors.Join(err, fmt.Errorf("a refused delivery is no event: there are %d", n))
	}
	w.tell(began, "", "a tag with a wrong token: refused with %d, and no event", code)
	return nil
}

// count is how many of GitLab's events there are of a kind and commit.
func (w *World) count(ctx context.Context, kind, sha string) (int, error) {
	n := 0
	err := w.tried(ctx, "count events", func(ctx context.Context) error {
		var found items[eventPart]
		if err := w.Get(ctx, "", "/api/v1/events?type=gitlab&limit=1000", &found); err != nil {
			return err
		}
		n = 0
		for _, e := range found.Items {
			if e.Git != nil && e.Git.Kind == kind && strings.HasPrefix(e.Git.SHA, sha) {
				n++
			}
		}
		return nil
	})
	return n, err
}

// half satisfies one of two dependencies, restarts the server, and then satisfies the other.
func (w *World) half(ctx context.Context) error {
	began := time.Now()
	var err error
	if w.tag, err = w.accepted(ctx, delivery{"tag", "Tag Push Hook", "d1c0-tag"}); err != nil {
		return err
	}
	got, err := w.decided(ctx, w.tag, "tide-tables", "waiting")
	if err != nil {
		return err
	}
	if strings.Join(got.Missing, " ") != "previewed" || strings.Join(got.Satisfied, " ") != "tagged" {
		return fmt.Errorf("tagged && previewed has tagged and waits for previewed: it has %q and waits for %q", got.Satisfied, got.Missing)
	}
	if err := w.why(ctx, w.tag, "waiting", "previewed"); err != nil {
		return err
	}
	w.tell(began, w.screen("/events/"+w.tag), "the tag: tide-tables has tagged, and waits for previewed")
	began = time.Now()
	if err := w.again(ctx); err != nil {
		return err
	}
	w.tell(began, w.screen("/"), "the server is killed half satisfied, and started again")
	return nil
}

// again kills the server and waits for it to be back; whoever kills it at random also brings it back.
func (w *World) again(ctx context.Context) error {
	if w.o.Rough {
		return w.ready(ctx)
	}
	if err := w.KillAndRestart(false); err != nil {
		return err
	}
	return w.ready(ctx)
}

// other satisfies the other dependency twice: it fires once.
func (w *World) other(ctx context.Context) error {
	began := time.Now()
	comment := delivery{"comment", "Note Hook", "d1c0-comment"}
	id, err := w.accepted(ctx, comment)
	if err != nil {
		return err
	}
	if _, err := w.decided(ctx, id, "tide-tables", "fired"); err != nil {
		return err
	}
	comment.uuid = "d1c0-comment-2"
	second, err := w.accepted(ctx, comment)
	if err != nil {
		return err
	}
	if _, err := w.decided(ctx, second, "tide-tables", "waiting"); err != nil {
		return err
	}
	var run runPart
	err = w.Within(ctx, 30*time.Second, "tide-tables made one run", func(ctx context.Context) error {
		var found items[runPart]
		label := url.QueryEscape("events.argoproj.io/sensor=default/tide-tables")
		if err := w.Get(ctx, "", "/api/v1/runs?label="+label, &found); err != nil {
			return err
		}
		switch {
		case len(found.Items) > 1:
			return final(fmt.Errorf("it made %d", len(found.Items)))
		case len(found.Items) == 0 || found.Items[0].Phase != "Succeeded":
			return fmt.Errorf("there are %+v", found.Items)
		}
		run = found.Items[0]
		return nil
	})
	if err != nil {
		return err
	}
	if err := w.why(ctx, id, "fired", run.Name); err != nil {
		return err
	}
	w.tell(began, w.screen("/runs/"+run.Namespace+"/"+run.Name), "a comment, and another: tide-tables fired once, and run %s took the tables over", run.Name)
	return nil
}
