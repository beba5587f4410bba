package hook_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/event/source"
	"github.com/tiphys/tiphys/event/source/hook"
	"github.com/tiphys/tiphys/event/source/sourcetest"
)

// sender is one who delivers over HTTP and counts as acknowledged what was answered with 2xx.
type sender struct {
	t        *testing.T
	to       source.Receiver
	header   func(n int) map[string]string
	answered map[int]int
}

func (s *sender) Happen(ctx context.Context, n int) {
	req := httptest.NewRequestWithContext(ctx, http.MethodPost, s.to.Routes()[0].Path, strings.NewReader(`{"n":1}`))
	for k, v := range s.header(n) {
		req.Header.Set(k, v)
	}
	s.answered[n] = s.to.Receive(ctx, req).Status
}

func (s *sender) Acknowledged(n int) bool { return s.answered[n] == http.StatusOK }

func TestConformance(t *testing.T) {
	deliveries := map[string]string{
		"webhook": "Idempotency-Key", "generic": "Idempotency-Key", forge.GitLab: "Idempotency-Key", forge.GitHub: "X-GitHub-Delivery",
		forge.Gitea: "X-Gitea-Delivery", forge.Bitbucket: "X-Request-UUID", forge.BitbucketServer: "X-Request-Id",
	}
	const head = "apiVersion: argoproj.io/v1alpha1\nkind: EventSource\nmetadata: {name: in, namespace: ports}\nspec:\n"
	for _, kind := range hook.Kinds() {
		t.Run(kind.Name(), func(t *testing.T) {
			sourcetest.Run(t, sourcetest.Fixture{
				Kind: kind,
				Good: head + "  " + kind.Name() + ":\n    e: {}\n",
				Bad:  map[string]string{"6:30": head + "  " + kind.Name() + ":\n    e: {filter: {expression: \"a ==\"}}\n"},
				Outside: func(t *testing.T, s source.Source, _ *sourcetest.Clock) sourcetest.Outside {
					return &sender{t: t, to: s.(source.Receiver), answered: map[int]int{}, header: func(n int) map[string]string {
						return map[string]string{deliveries[kind.Name()]: fmt.Sprint("delivery-", n)}
					}}
				},
			})
		})
	}
}
