package wire

import (
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// disk has what is free of each folder's disk, and its size; others are full.
type disk map[string][2]uint64

func (d disk) Room(folder string) (free, size uint64) { return d[folder][0], d[folder][1] }

// While the disk is full the server says so to whoever asks whether it is ready.
func TestReadyTellsOfAFullDisk(t *testing.T) {
	s := opened(t, Options{})
	if err := s.services.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.services.Stop()
	for _, c := range []struct {
		free, size uint64
		code       int
	}{
		{1 << 30, 1 << 40, http.StatusOK},
		{8 << 20, 1 << 40, http.StatusOK},
		{8<<20 - 1, 1 << 40, http.StatusServiceUnavailable},
		{0, 1 << 40, http.StatusServiceUnavailable},
		{2 << 20, 128 << 20, http.StatusOK}, // a small disk
		{1<<20 - 1, 128 << 20, http.StatusServiceUnavailable},
		{math.MaxUint64, math.MaxUint64, http.StatusOK}, // that cannot be asked
	} {
		s.recording.Disk = disk{s.o.Data: {c.free, c.size}}
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "http://localhost/readyz", nil)
		r.Header.Set("Authorization", "Bearer "+s.o.Token.Reveal())
		s.port.Handler().ServeHTTP(w, r)
		if w.Code != c.code || strings.Contains(w.Body.String(), "is full") != (c.code != http.StatusOK) {
			t.Errorf("%d of %d bytes are free: %d %s", c.free, c.size, w.Code, w.Body)
		}
		// Strangers are told that much and no more.
		w = httptest.NewRecorder()
		s.port.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost/readyz", nil))
		if want := map[bool]string{true: "ready\n", false: "not ready\n"}[c.code == http.StatusOK]; w.Code != c.code || w.Body.String() != want {
			t.Errorf("%d of %d bytes are free, and strangers are told %d %q", c.free, c.size, w.Code, w.Body)
		}
	}
}
