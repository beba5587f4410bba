package image_test

import (
	"archive/tar"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tiphys/tiphys/artifact/image"
)

// dial is a clock that the test turns.
type dial struct{ at atomic.Int64 }

func (d *dial) now() time.Time    { return time.Unix(d.at.Load(), 0) }
func (d *dial) set(t time.Time)   { d.at.Store(t.Unix()) }
func exists(file string) bool     { _, err := os.Stat(file); return err == nil }
func nobody(string) bool          { return false }
func everybody(_ string) bool     { return true }
func morning() time.Time          { return time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC) }
func after(h int) time.Time       { return morning().Add(time.Duration(h) * time.Hour) }
func oneFile(body string) file    { return file{name: "f", kind: tar.TypeReg, body: body} }
func inLayer(dir string) string   { return filepath.Join(dir, "f") }
func rest(l *image.Library) error { _, err := l.SweepLayers(bg, morning(), nobody); return err }

// A layer stays while somebody runs from it, and for as long as was asked after its last use.
func TestSweepLayersKeepsWhatIsUsed(t *testing.T) {
	var asked atomic.Int64
	_, host := other(t, &asked)
	push(t, host+"/old:v1", imageOf(t, layerOf(t, oneFile("old"))))
	push(t, host+"/new:v1", imageOf(t, layerOf(t, oneFile("new"))))
	var clock dial
	clock.set(morning())
	l, _ := newLibrary(t, func(o *image.LibraryOptions) { o.Now = clock.now })
	old, err := l.Rootfs(bg, host+"/old:v1", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	clock.set(after(5))
	young, err := l.Rootfs(bg, host+"/new:v1", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := rest(l); err != nil {
		t.Fatal(err)
	}
	if !exists(inLayer(old.Layers[0])) || !exists(inLayer(young.Layers[0])) {
		t.Fatal("a layer that was used after the time went")
	}
	if swept, err := l.SweepLayers(bg, after(1), everybody); err != nil || swept.Count != 0 {
		t.Fatalf("what pods run from stays: %+v, %v", swept, err)
	}
	// What was used anew counts from then.
	clock.set(after(9))
	if _, err := l.Rootfs(bg, host+"/old:v1", "", nil); err != nil {
		t.Fatal(err)
	}
	swept, err := l.SweepLayers(bg, after(6), nobody)
	if err != nil || swept.Count != 1 || swept.Bytes != 3 || exists(young.Layers[0]) || !exists(inLayer(old.Layers[0])) {
		t.Errorf("the one that was not used goes: %+v, %v", swept, err)
	}
	// What a crash left while it removed or unpacked goes as well.
	if err := os.Rename(old.Layers[0], old.Layers[0]+".tmp"); err != nil {
		t.Fatal(err)
	}
	if swept, err = l.SweepLayers(bg, after(10), nobody); err != nil || swept.Count != 1 || exists(old.Layers[0]+".tmp") {
		t.Errorf("leftovers go: %+v, %v", swept, err)
	}
	if again, err := l.Rootfs(bg, host+"/old:v1", "", nil); err != nil || !exists(inLayer(again.Layers[0])) {
		t.Errorf("it is fetched again: %v", err)
	}
}

// A sweep beside a start leaves the layer whole or has it unpacked anew; never does a pod get a folder that goes away.
func TestSweepLayersBesideStarts(t *testing.T) {
	var asked atomic.Int64
	_, host := other(t, &asked)
	push(t, host+"/x:v1", imageOf(t, layerOf(t, oneFile("x"))))
	var clock dial
	dir := t.TempDir()
	options := func(o *image.LibraryOptions) { o.Now, o.Layers, o.Unsynced = clock.now, dir, true }
	l, _ := newLibrary(t, options)
	for round := range 60 {
		clock.set(after(10 * round))
		if _, err := l.Rootfs(bg, host+"/x:v1", "", nil); err != nil {
			t.Fatal(err)
		}
		clock.set(after(10*round + 5))
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := l.SweepLayers(bg, after(10*round+1), nobody); err != nil {
				t.Error(err)
			}
		})
		for range 2 {
			wg.Go(func() {
				r, err := l.Rootfs(bg, host+"/x:v1", "", nil)
				if err != nil || !exists(inLayer(r.Layers[0])) {
					t.Errorf("round %d: the layer is not whole: %v", round, err)
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
	}
}

// A pod that starts after the sweep looked and before it removes keeps its layer.
func TestSweepLayersLooksAgain(t *testing.T) {
	var asked atomic.Int64
	_, host := other(t, &asked)
	push(t, host+"/x:v1", imageOf(t, layerOf(t, oneFile("x"))))
	var clock dial
	clock.set(morning())
	l, _ := newLibrary(t, func(o *image.LibraryOptions) { o.Now = clock.now })
	if _, err := l.Rootfs(bg, host+"/x:v1", "", nil); err != nil {
		t.Fatal(err)
	}
	clock.set(after(5))
	var r image.Rootfs
	swept, err := l.SweepLayers(bg, after(1), func(string) (keep bool) {
		var err error
		if r, err = l.Rootfs(bg, host+"/x:v1", "", nil); err != nil {
			t.Error(err)
		}
		return false
	})
	if err != nil || swept.Count != 0 || !exists(inLayer(r.Layers[0])) {
		t.Errorf("the layer that is in use now stays: %+v, %v", swept, err)
	}
}

// What an image was made of when it was last pulled is known without its registry.
func TestLayersOf(t *testing.T) {
	var asked atomic.Int64
	_, host := other(t, &asked)
	push(t, host+"/x:v1", imageOf(t, layerOf(t, oneFile("1")), layerOf(t, oneFile("2"))))
	l, _ := newLibrary(t, nil)
	r, err := l.Rootfs(bg, host+"/x:v1", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	before := asked.Load()
	dirs, err := l.LayersOf([]string{host + "/x:v1", host + "/never:pulled", "Not a reference", ""})
	if err != nil || len(dirs) != 2 || !dirs[r.Layers[0]] || !dirs[r.Layers[1]] || asked.Load() != before {
		t.Errorf("%v, %v; asked %d times", dirs, err, asked.Load()-before)
	}
}
