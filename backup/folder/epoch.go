package folder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tiphys/tiphys/control/hold"
	"github.com/tiphys/tiphys/datafolder"
	"github.com/tiphys/tiphys/failure"
)

// epochFile has the epoch of a data folder. The ledger is what counts: the file shows a ledger that was put into the folder by other means.
const epochFile = "epoch"

func writeEpoch(data string, epoch int64) error {
	name := filepath.Join(data, epochFile)
	if err := datafolder.WriteFile(name, []byte(strconv.FormatInt(epoch, 10)+"\n"), 0o600); err != nil {
		return fmt.Errorf("write epoch: %w", err)
	}
	return nil
}

// CheckEpoch compares the folder's epoch with the ledger's. A ledger that is older than its folder was copied there by hand: its server would do
// again what was done since, with nobody asked.
func CheckEpoch(data string, s hold.State) error {
	if err := os.Remove(filepath.Join(data, stageMark)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("end a restore: %w", err)
	}
	raw, err := os.ReadFile(filepath.Join(data, epochFile))
	if errors.Is(err, fs.ErrNotExist) {
		if s.Epoch == 0 {
			return nil
		}
		return writeEpoch(data, s.Epoch)
	}
	if err != nil {
		return fmt.Errorf("read epoch: %w", err)
	}
	if n, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64); err != nil || n != s.Epoch {
		return failure.WithHint(failure.Errorf(failure.Stalled, "the data folder %s is of epoch %.20q and its ledger of epoch %d: the ledger is not the one of this folder",
			data, strings.TrimSpace(string(raw)), s.Epoch), "restore a backup into a new folder with tiphys restore")
	}
	return nil
}
