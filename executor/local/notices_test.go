package local_test

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/protocol"
)

// A notice that cannot be read is trouble until the next one that can. Nobody's end is missed for it.
func TestNoticeThatCannotBeRead(t *testing.T) {
	needRoot(t)
	dir, shared := t.TempDir(), t.TempDir()
	e := open(t, dir)
	conn, err := net.Dial("unixgram", filepath.Join(dir, protocol.NoticeFile))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte(`{"name": 7`)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is shown", func() bool { return strings.Contains(e.Trouble(), "cannot be read") })
	p := oncePod(t, shared)
	if err := e.Start(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	report(t, e, func(r executor.Report) bool { return r.Phase == executor.Running })
	write(t, filepath.Join(shared, "go"))
	report(t, e, func(r executor.Report) bool { return r.Phase == executor.Succeeded })
	eventually(t, "it is over", func() bool { return e.Trouble() == "" })
}
