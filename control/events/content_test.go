package events_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const signed = `
apiVersion: v1
kind: Secret
metadata: {name: signed, namespace: ports}
stringData: {key: the-key-of-the-hook}
---
apiVersion: argoproj.io/v1alpha1
kind: EventSource
metadata: {name: signed, namespace: ports}
spec:
  github: {hub: {webhook: {endpoint: /hub}, webhookSecret: {name: signed, key: key}}}
  gitea: {tea: {webhook: {endpoint: /tea}, webhookSecret: {name: signed, key: key}}}
  webhook: {plain: {endpoint: /plain, method: POST}}
  generic: {any: {jsonBody: true}}
`

// Who recorded a signed delivery and sends it again under another id changes nothing: the signature is of the body alone. Deliveries that are
// not signed, or of no forge, may be the same twice.
func TestSignedDeliveriesAreKnownByTheirContent(t *testing.T) {
	h := newHouse(t)
	h.apply(signed)
	h.open()
	deliver := func(path, body string, header map[string]string) int64 {
		t.Helper()
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/webhooks/ports/signed/"+path, strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		mac := hmac.New(sha256.New, []byte("the-key-of-the-hook"))
		mac.Write([]byte(body))
		req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
		req.Header.Set("X-Gitea-Signature", hex.EncodeToString(mac.Sum(nil)))
		for k, v := range header {
			req.Header.Set(k, v)
		}
		w := httptest.NewRecorder()
		h.room.ServeHTTP(w, req)
		var answer struct{ Seq int64 }
		if err := json.Unmarshal(w.Body.Bytes(), &answer); w.Code != http.StatusOK || err != nil {
			t.Fatalf("%s: %d %s", path, w.Code, w.Body)
		}
		return answer.Seq
	}
	const push = `{"ref":"refs/heads/main","after":"1111111111111111111111111111111111111111","before":"2222222222222222222222222222222222222222","repository":{"full_name":"o/r"}}`
	for _, c := range []struct{ path, event, id string }{{"hub", "X-GitHub-Event", "X-GitHub-Delivery"}, {"tea", "X-Gitea-Event", "X-Gitea-Delivery"}} {
		first := deliver(c.path, push, map[string]string{c.event: "push", c.id: "1"})
		for _, id := range []string{"1", "2", ""} {
			if again := deliver(c.path, push, map[string]string{c.event: "push", c.id: id}); again != first {
				t.Errorf("%s: under the id %q it is event %d, and was %d", c.path, id, again, first)
			}
		}
		if other := deliver(c.path, strings.Replace(push, "main", "next", 1), map[string]string{c.event: "push", c.id: "3"}); other == first {
			t.Errorf("%s: another body is the same event", c.path)
		}
	}
	for _, path := range []string{"plain", "any"} {
		first := deliver(path, `{"ring":1}`, map[string]string{"Idempotency-Key": "1"})
		if again := deliver(path, `{"ring":1}`, map[string]string{"Idempotency-Key": "2"}); again == first {
			t.Errorf("%s: two deliveries with one body are one event", path)
		}
		if again := deliver(path, `{"ring":1}`, map[string]string{"Idempotency-Key": "1"}); again != first {
			t.Errorf("%s: one delivery is two events", path)
		}
	}
}
