package events

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/manifest"
)

// Neither an http trigger nor an object's URL reaches loopback, and another try would not either.
func TestTriggersDoNotReachLoopback(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	t.Cleanup(s.Close)
	r := newRoom(t, nil)
	r.o.Egress = egress.New(egress.Options{})
	f := httpFiring("f", s.URL)
	withTLS := httpFiring("f", strings.Replace(s.URL, "http://", "https://", 1))
	withTLS.Template.HTTP.TLS = &manifest.TLSConfig{InsecureSkipVerify: true}
	_, err1 := r.request(t.Context(), f)
	_, err2 := r.request(t.Context(), withTLS)
	_, err3 := r.get(egress.For(t.Context(), "source.url.path"), s.URL)
	for i, err := range []error{err1, err2, err3} {
		field := []string{"http.url: ", "http.url: ", "source.url.path: "}[i]
		if !errors.Is(err, egress.ErrRefused) || !errors.Is(err, errFinal) || !strings.Contains(err.Error(), field) || !strings.Contains(err.Error(), "--allow-egress") {
			t.Errorf("%s %v", field, err)
		}
	}
	if asked != 0 {
		t.Errorf("it was asked %d times", asked)
	}
}
