package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/tiphys/tiphys/datafolder"
	"github.com/tiphys/tiphys/keeper/front"
)

// stateName is the file of what a keeper knows, so that one that was killed carries requests again before a server tells it.
const stateName = "table.json"

type state struct {
	// Boot is the machine's boot: after another one nothing that is named here exists.
	Boot  string      `json:"boot"`
	Epoch uint64      `json:"epoch"`
	Table front.Table `json:"table"`
}

func boot() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "" // then nothing is taken from a file
	}
	return strings.TrimSpace(string(id))
}

// save writes the file. If it cannot be written the next keeper waits for a server, which is all that is lost.
func (k *keeper) save() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.retired {
		return
	}
	table := k.front.Table()
	table.Certificates = nil // nobody's key is in a file in clear: until a server says them again there is no TLS for their hosts
	raw, err := json.Marshal(state{Boot: boot(), Epoch: k.epoch, Table: table})
	path := filepath.Join(k.dir, stateName)
	if err == nil {
		err = datafolder.WriteFile(path, raw, 0o600)
	}
	if err != nil {
		k.log.Warn("the routes could not be kept in a file", "error", err)
	}
}

// load takes what the keeper before knew, if the machine was not started anew.
func (k *keeper) load() {
	f, err := os.Open(filepath.Join(k.dir, stateName))
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	var s state
	if err == nil {
		defer f.Close()
		var st os.FileInfo
		if st, err = f.Stat(); err == nil && st.Size() > maxMessage {
			err = errTooLong
		}
		if err == nil {
			err = json.NewDecoder(f).Decode(&s)
		}
	}
	if err == nil && s.Boot != "" && s.Boot == boot() {
		k.epoch = s.Epoch
		err = k.route(s.Table)
	}
	if err != nil {
		k.log.Warn("the routes of before could not be read", "error", err)
	}
}

// readConfig reads what this keeper is told, and the port if it is given one.
func readConfig(in *os.File) (o config, port *net.TCPListener, err error) {
	if err := json.NewDecoder(in).Decode(&o); err != nil {
		return o, nil, fmt.Errorf("read configuration: %w", err)
	}
	if !o.Listener {
		return o, nil, nil
	}
	f := os.NewFile(3, "port")
	defer f.Close()
	port, err = listenerOf(f)
	return o, port, err
}

func listenerOf(f *os.File) (*net.TCPListener, error) {
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("use the port that was given: %w", err)
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(errors.New("use the port that was given: it is not TCP"), l.Close())
	}
	return tcp, nil
}

// maxLog bounds the file of what keepers complain of, in bytes: it is begun anew when it has grown beyond.
const maxLog = 4 << 20

// complaints is that file. A keeper lives for months.
type complaints struct {
	mu   sync.Mutex
	file *os.File
}

// Write implements io.Writer.
func (c *complaints) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if st, err := c.file.Stat(); err == nil && st.Mode().IsRegular() && st.Size() > maxLog {
		if err := c.file.Truncate(0); err != nil {
			return 0, err
		}
	}
	return c.file.Write(p)
}

// readiness is what a keeper says at its start, in one line.
type readiness struct {
	Address string `json:"address,omitempty"`
	Error   string `json:"error,omitempty"`
}

// ready says that the keeper serves, or why it does not.
func (k *keeper) ready(out *os.File, failed error) error {
	var r readiness
	if failed != nil {
		r.Error = failed.Error()
	} else {
		r.Address = k.port().Addr().String()
	}
	if err := json.NewEncoder(out).Encode(r); err != nil {
		return fmt.Errorf("say that the keeper is ready: %w", err)
	}
	return nil
}
