package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/tiphys/tiphys/manifest"
)

// configured reads a configuration file into the flags of serve, after a command line.
func configured(t *testing.T, text string, args ...string) (*pflag.FlagSet, string, error) {
	t.Helper()
	folder := t.TempDir()
	file := filepath.Join(folder, "server.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := newServe(IO{}).Flags()
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	_, diags := configure(file, flags)
	err := manifest.FirstError(diags)
	return flags, folder, err
}

const configHead = "apiVersion: tiphys.dev/v1alpha1\nkind: ServerConfiguration\n"

// Every flag can stand in the file; what names a file is relative to it; the command line wins.
func TestServerConfiguration(t *testing.T) {
	t.Parallel()
	flags, folder, err := configured(t, configHead+`
data: state
config: /etc/tiphys/definitions
listen: 127.0.0.1:1
name: ci.example.org
verbose: true
registryMirror:
  docker.io: https://mirror.example.org
grants:
- {to: {repositories: [harbour, team/*]}, executors: [host]}
`, "--listen", "127.0.0.1:2")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, name := range []string{"data", "config", "listen", "name", "verbose", "registry-mirror", "executor"} {
		got[name] = flags.Lookup(name).Value.String()
	}
	want := map[string]string{
		"data": filepath.Join(folder, "state"), "config": "/etc/tiphys/definitions", "listen": "127.0.0.1:2", "name": "ci.example.org", "verbose": "true",
		"registry-mirror": "[docker.io=https://mirror.example.org]", "executor": "container",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// What is wrong in the file is said with its place and what to do.
func TestServerConfigurationRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"data: x\n":                                "kind is required",
		"apiVersion: v1\nkind: ConfigMap\n":        "begin it with apiVersion: tiphys.dev/v1alpha1",
		configHead + "listn: x\n":                  "3:8: listn: there is no such setting",
		configHead + "host-repos: [x]\n":           "it was replaced by grants (write the grant into",
		configHead + "hostRepos: [x]\n":            "it was replaced by grants (write the grant into",
		configHead + "grants: {hostRepos: [x]}\n":  "server.yaml:3:9: grants: it must be a list",
		configHead + "grants: [{to: x}]\n":         "server.yaml:3:15: ",
		configHead + "verbose: perhaps\n":          "server.yaml:3:10: verbose: \"perhaps\" is not a bool",
		configHead + "data: [a, b]\n":              "it cannot be a list",
		configHead + "data:\n":                     "it cannot be a null",
		configHead + "data: {a: [b]}\n":            "it cannot be a map",
		configHead + "serverConfig: x\n":           "there is no such setting",
		configHead + "data: x\n---\n" + configHead: "this is not one ServerConfiguration",
		strings.Repeat("#", 2<<20):                 "at most 1048576 bytes",
	} {
		if _, _, err := configured(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", text, err, want)
		}
	}
	if _, diags := configure(filepath.Join(t.TempDir(), "none"), newServe(IO{}).Flags()); !manifest.Failed(diags) {
		t.Error("a file that is not there was read")
	}
}

// Each flag has one name in the file.
func TestSettingNames(t *testing.T) {
	t.Parallel()
	newServe(IO{}).Flags().VisitAll(func(f *pflag.Flag) {
		if got := flagName(camelCase(f.Name)); got != f.Name {
			t.Errorf("--%s is %s in the file, which is --%s", f.Name, camelCase(f.Name), got)
		}
	})
	for _, name := range pathFlags() {
		if newServe(IO{}).Flags().Lookup(name) == nil {
			t.Errorf("there is no flag --%s", name)
		}
	}
}

// The page lists every setting by its name in the file.
func TestSettingsAreDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	newServe(IO{}).Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name != configFlag && !f.Hidden && !strings.Contains(string(page), "| `"+camelCase(f.Name)+"` |") {
			t.Errorf("docs/configuration.md has no row of %s", camelCase(f.Name))
		}
	})
}

// Whoever still gives repositories the host executor on the command line is told what to write.
func TestRemovedFlag(t *testing.T) {
	t.Parallel()
	_, err := serveOptions{executor: "host", removed: []string{"harbour"}}.server(IO{Getenv: func(string) string { return "" }})
	if err == nil || !strings.Contains(err.Error(), "--host-repos was replaced by grants") || !strings.Contains(err.Error(), "executors: [host]") {
		t.Errorf("%v", err)
	}
}
