package docs_test

import (
	"bytes"
	"context"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/cli"
)

var (
	command = regexp.MustCompile(`^(?:bin/)?tiphys ([a-z][^#]*)`)
	flag    = regexp.MustCompile(`--[a-z][a-z-]*`)
)

// TestCommandsExist asks the command line for every command, and its flags, that the documents show.
func TestCommandsExist(t *testing.T) {
	ofSteps := []string{"image", "release", "status", "comment", "artifact", "output", "log", "whoami"} // of tiphys-init, in steps
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, page := range append(pages, "../../README.md", "../../AGENTS.md") {
		for _, line := range strings.Split(read(t, page), "\n") {
			m := command.FindStringSubmatch(line)
			if m == nil || slices.Contains(ofSteps, strings.Fields(m[1])[0]) {
				continue
			}
			seen++
			var names []string
			for _, word := range strings.Fields(m[1]) {
				if !regexp.MustCompile(`^[a-z]+$`).MatchString(word) {
					break
				}
				names = append(names, word)
			}
			help := helpOf(names[:min(2, len(names))])
			for _, f := range flag.FindAllString(m[1], -1) {
				if !strings.Contains(help, f+" ") {
					t.Errorf("%s: %q: there is no flag %s", page, strings.TrimSpace(line), f)
				}
			}
			if help == "" {
				t.Errorf("%s: %q: there is no such command", page, strings.TrimSpace(line))
			}
		}
	}
	if seen < 20 {
		t.Errorf("found %d commands only", seen)
	}
}

// helpOf gives a command's help; empty if there is no such command.
func helpOf(names []string) string {
	var out bytes.Buffer
	std := cli.IO{In: strings.NewReader(""), Out: &out, Err: &out, Getenv: func(string) string { return "" }}
	if cli.Main(context.Background(), append(names, "--help"), std) != cli.ExitOK || !strings.Contains(out.String(), "tiphys "+names[0]) {
		return ""
	}
	return out.String()
}
