package runs

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// corpusFolder gives a folder of the corpus, which is not part of this repository, or skips the test and says so.
func corpusFolder(t *testing.T, folder string) string {
	t.Helper()
	root := os.Getenv("TIPHYS_CONFORMANCE")
	if root == "" {
		root = "../../../../shared/conformance"
	}
	dir := filepath.Join(root, folder)
	if _, err := os.Stat(filepath.Join(dir, "index.json")); err != nil {
		t.Skipf("SKIPPED, NOTHING WAS TESTED: the conformance corpus is not at %s (set TIPHYS_CONFORMANCE)", dir)
	}
	return dir
}

func readIndex(t *testing.T, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// argosay does what the corpus' README says of the program of that name.
const argosay = `#!/bin/sh
verb=$1
[ $# -gt 0 ] && shift
case "$verb" in
"") echo "hello argo" ;;
echo)
	case $# in
	0) echo "hello argo" ;;
	1) echo "$1" ;;
	*) mkdir -p "$(dirname "$2")" && printf '%s' "$1" > "$2" ;;
	esac ;;
cat) exec cat "$@" ;;
sleep) exec sleep "$@" ;;
exit) exit "${1:-0}" ;;
assert_contains) exec grep -F -- "$2" "$1" ;;
sh) exec sh "$@" ;;
*) echo "unknown verb $verb" >&2; exit 1 ;;
esac
`

// cowsay prints its arguments in a bubble.
const cowsay = `#!/bin/sh
echo " ____"
echo "< $* >"
echo " ----"
`

// netcat serves `nc -lk -p PORT`, which is all that the cases do with busybox' nc.
const netcat = `#!/usr/bin/env python3
import socket, sys
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("", int(sys.argv[sys.argv.index("-p") + 1])))
server.listen()
while True:
    server.accept()[0].close()
`

const hostImages = `files:
  /usr/local/bin/nc: nc
  /argosay: argosay
  /bin/argosay: argosay
  /usr/local/bin/cowsay: cowsay
  /usr/local/bin/python: python
images:
  argoproj/argosay:v2: {entrypoint: [/argosay]}
  argoproj/argosay:v1: {cmd: [cowsay]}
  docker/whalesay: {cmd: [cowsay]}
`

// makeStandIns writes the programs that the cases' images have, and the file that names them.
func makeStandIns(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"argosay": argosay, "cowsay": cowsay, "python": "#!/bin/sh\nexec python3 \"$@\"\n", "nc": netcat, "images.yaml": hostImages,
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "images.yaml")
}
