package wire

import (
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

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
		s.room = func(dir string) (uint64, uint64) {
			if dir != s.o.Data {
				t.Errorf("asked for %s", dir)
			}
			return c.free, c.size
		}
		w := httptest.NewRecorder()
		s.port.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost/readyz", nil))
		if w.Code != c.code || strings.Contains(w.Body.String(), "is full") != (c.code != http.StatusOK) {
			t.Errorf("%d of %d bytes are free: %d %s", c.free, c.size, w.Code, w.Body)
		}
	}
	if free, size := diskRoom(t.TempDir()); size == 0 || free > size {
		t.Errorf("%d of %d", free, size)
	}
	if free, _ := diskRoom("/no/such/folder"); free != math.MaxUint64 {
		t.Errorf("%d are free where nothing is", free)
	}
}
