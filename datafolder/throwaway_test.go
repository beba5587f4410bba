package datafolder

import (
	"os"
	"path/filepath"
	"testing"
)

// What a killed process left is removed by the next one; what belongs to a living one, or to nobody known, is not.
func TestThrowawaysAreSwept(t *testing.T) {
	parent := t.TempDir()
	living := &Throwaway{}
	lives, err := living.folder(parent)
	if err != nil {
		t.Fatal(err)
	}
	killed := &Throwaway{}
	dead, err := killed.folder(parent)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dead, "ledger.db"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range killed.locks {
		_ = f.Close() // as the kernel does for a process that is killed
	}
	unlocked, foreign := filepath.Join(parent, throwawayPrefix+"new"), filepath.Join(parent, "foreign")
	for _, dir := range []string{unlocked, foreign} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	sweepThrowaways(parent, filepath.Join(parent, "nowhere"))
	if _, err := os.Stat(dead); !os.IsNotExist(err) {
		t.Errorf("what the killed process left is there: %v", err)
	}
	for _, dir := range []string{lives, unlocked, foreign} {
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	}
	living.State = lives
	if err := living.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(lives); !os.IsNotExist(err) {
		t.Errorf("removed, yet %v", err)
	}
}

// A folder on disk is no place for state that is wanted in memory.
func TestMemoryFits(t *testing.T) {
	for _, dir := range []string{"/proc", filepath.Join(t.TempDir(), "nowhere")} {
		if memoryFits(dir) {
			t.Errorf("%s", dir)
		}
	}
}
