package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/access/stepclaims"
	artifactlocal "github.com/tiphys/tiphys/artifact/local"
	"github.com/tiphys/tiphys/ledger"
)

// An output is downloaded as a file, and a node that says that another run's object is its output gets nobody that.
func TestArtifacts(t *testing.T) {
	a := testAPI(t)
	store, err := artifactlocal.Open(t.TempDir(), artifactlocal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	a.Artifacts, a.Guard = store, stepclaims.Artifacts{Claims: stepclaims.Reader{Ledger: a.Ledger}}
	for _, key := range []string{"mine/x/out.html", "theirs/x/out.tgz", "steps/uid-theirs/key"} {
		if _, err := store.Put(t.Context(), key, strings.NewReader("<script>"+key)); err != nil {
			t.Fatal(err)
		}
	}
	err = a.Ledger.Write(t.Context(), ledger.Anyone("run/default/mine"), func(tx ledger.Tx) error {
		for _, row := range []struct{ table, key, body string }{
			{"run", "default/mine", `{"uid": "uid-mine", "namespace": "default", "name": "mine"}`},
			{"run", "default/theirs", `{"uid": "uid-theirs", "namespace": "default", "name": "theirs"}`},
			{"node", "default/mine/n", `{"id": "n", "outputs": {"artifacts": [{"name": "page", "s3": {"key": "mine/x/out.html"}}, {"name": "run", "s3": {"key": "theirs/x/out.tgz"}},
				{"name": "step", "s3": {"key": "steps/uid-theirs/key"}}, {"name": "gone", "s3": {"key": "mine/gone"}}, {"name": "far", "s3": {"key": "k", "bucket": "b"}}, {"name": "text", "raw": {"data": "x"}}]}}`},
		} {
			if err := tx.Put(ledger.Row{Table: row.table, Key: row.key, Body: json.RawMessage(row.body)}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"page": 200, "run": 403, "step": 403, "gone": 404, "far": 404, "text": 404, "none": 404} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		for k, v := range map[string]string{"namespace": "default", "name": "mine", "node": "n", "artifact": name} {
			r.SetPathValue(k, v)
		}
		w := httptest.NewRecorder()
		as(access.Viewer, a.getArtifact).ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s: %d %s, want %d", name, w.Code, w.Body, want)
		}
		if name != "page" {
			continue
		}
		got := []string{w.Body.String(), w.Header().Get("Content-Type"), w.Header().Get("Content-Disposition"), w.Header().Get("Content-Security-Policy")}
		if want := "<script>mine/x/out.html application/octet-stream attachment; filename=out.html sandbox"; strings.Join(got, " ") != want {
			t.Errorf("%v, want %s", got, want)
		}
	}
}
