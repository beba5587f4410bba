package story

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"
)

func round(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

func (w *World) title(format string, args ...any) {
	fmt.Fprintf(w.o.Out, "\n%s\n", fmt.Sprintf(format, args...))
}

// tell says in one line what happened, how long it took, and where to look.
func (w *World) tell(since time.Time, url, format string, args ...any) {
	took := ""
	if !since.IsZero() {
		took = round(time.Since(since))
	}
	line := fmt.Sprintf("%8s  %s", took, fmt.Sprintf(format, args...))
	if url != "" {
		line += "  " + url
	}
	fmt.Fprintln(w.o.Out, line)
}

// lastWords are the end of the server's log, for a story that failed.
func (w *World) lastWords() string {
	data, err := os.ReadFile(w.logFile)
	if err != nil || len(data) == 0 {
		return ""
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	const shown = 15
	lines = lines[max(0, len(lines)-shown):]
	return "\n\nthe server's last words:\n  " + strings.ReplaceAll(string(bytes.Join(lines, []byte("\n"))), "\n", "\n  ")
}
