package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/manifest"
)

// The envelope of the server's configuration file, as Kubernetes' components have theirs.
const (
	configVersion = "tiphys.dev/v1alpha1"
	configKind    = "ServerConfiguration"
	configFlag    = "server-config"
)

// grantsKey is the list of grants. It has no flag: what gives somebody rights is written down and reviewed.
const grantsKey = "grants"

// removedFlag gave repositories the host executor, until grants said it for everything; removedHint says what to write instead.
const (
	removedFlag = "host-repos"
	removedHint = "write the grant into the file of --server-config: grants: [{to: {repositories: [NAME], mergeRequests: true}, executors: [host]}] (docs/configuration.md)"
)

// pathFlags are the flags that name a file or folder. In the file they are relative to it.
func pathFlags() []string {
	return []string{"config", "data", "token-file", "host-images", "tls-cert", "tls-key"}
}

// configure sets flags from the server's configuration file, and gives its grants: every flag stands there under its name in camel case, lists
// as lists and maps as maps. A flag of the command line wins. The diagnostics have places.
func configure(file string, flags *pflag.FlagSet) ([]podpolicy.Grant, []manifest.Diagnostic) {
	data, err := readSmall(file)
	if err != nil {
		return nil, []manifest.Diagnostic{{Position: manifest.Position{File: file}, Severity: manifest.SeverityError, Message: err.Error()}}
	}
	objects, diags := manifest.Decode(file, data)
	if manifest.Failed(diags) {
		return nil, diags
	}
	if len(objects) != 1 || objects[0].Kind != configKind || objects[0].APIVersion != configVersion {
		return nil, append(diags, manifest.Diagnostic{
			Position: manifest.Position{File: file}, Severity: manifest.SeverityError,
			Message: "this is not one " + configKind, Hint: "begin it with apiVersion: " + configVersion + " and kind: " + configKind,
		})
	}
	c := configuration{folder: filepath.Dir(file), flags: flags}
	c.read(objects[0].Tree)
	return c.grants, append(diags, c.diags...)
}

// maxServerConfig is the most bytes that a configuration file has.
const maxServerConfig = 1 << 20

func readSmall(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("read the server's configuration: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxServerConfig {
		return nil, fmt.Errorf("read the server's configuration: it must be a file of at most %d bytes", maxServerConfig)
	}
	return os.ReadFile(file)
}

// configuration is a file on its way into flags.
type configuration struct {
	folder string
	flags  *pflag.FlagSet
	grants []podpolicy.Grant
	diags  []manifest.Diagnostic
}

// read sets the flags that the file names.
func (c *configuration) read(tree *manifest.Tree) {
	for _, key := range tree.Keys() {
		value := tree.Get(key)
		switch key {
		case "apiVersion", "kind":
		case grantsKey:
			grants, diags := podpolicy.Read(value, grantsKey)
			c.grants, c.diags = grants, append(c.diags, diags...)
		default:
			c.set(key, value)
		}
	}
}

func (c *configuration) set(key string, value *manifest.Tree) {
	name, path := flagName(key), key
	flag := c.flags.Lookup(name)
	switch {
	case name == removedFlag || key == removedFlag:
		c.refuse(value, path, "it was replaced by grants", removedHint)
		return
	case flag == nil || flag.Hidden || camelCase(name) != key || name == configFlag || name == "help":
		c.refuse(value, path, "there is no such setting", c.nearest(key))
		return
	case flag.Changed:
		return // the command line wins
	}
	texts, ok := texts(value)
	if _, list := flag.Value.(pflag.SliceValue); !ok || !list && value.Kind() == manifest.KindList || !list && value.Kind() == manifest.KindMap {
		c.refuse(value, path, fmt.Sprintf("it cannot be a %s", value.Kind()), flag.Usage)
		return
	}
	for _, text := range texts {
		if slices.Contains(pathFlags(), name) && text != "" && !filepath.IsAbs(text) {
			text = filepath.Join(c.folder, text)
		}
		if err := flag.Value.Set(text); err != nil {
			c.refuse(value, path, fmt.Sprintf("%q is not a %s", text, flag.Value.Type()), flag.Usage)
			return
		}
	}
	flag.Changed = true
}

func (c *configuration) refuse(value *manifest.Tree, path, message, hint string) {
	c.diags = append(c.diags, manifest.Diagnostic{Position: value.Here(), Severity: manifest.SeverityError, Path: path, Message: path + ": " + message, Hint: hint})
}

// nearest names the setting that was perhaps meant, or all that there are.
func (c *configuration) nearest(key string) string {
	var names []string
	c.flags.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && f.Name != configFlag && f.Name != "help" {
			names = append(names, camelCase(f.Name))
		}
	})
	for _, name := range names {
		if strings.EqualFold(name, strings.ReplaceAll(key, "-", "")) || strings.EqualFold(name+"s", key) || strings.EqualFold(name, key+"s") {
			return "did you mean " + name + "?"
		}
	}
	names = append(names, grantsKey)
	return "there are " + strings.Join(names, ", ")
}

// texts are the values of a setting as the command line would have them: one of a scalar, each of a list, KEY=VALUE of a
// map.
func texts(value *manifest.Tree) ([]string, bool) {
	switch value.Kind() {
	case manifest.KindList:
		var list []string
		for _, item := range value.Items() {
			if item.Kind() == manifest.KindList || item.Kind() == manifest.KindMap || item.Kind() == manifest.KindNull {
				return nil, false
			}
			list = append(list, item.Text())
		}
		return list, true
	case manifest.KindMap:
		var list []string
		for _, key := range value.Keys() {
			item := value.Get(key)
			if item.Kind() == manifest.KindList || item.Kind() == manifest.KindMap || item.Kind() == manifest.KindNull {
				return nil, false
			}
			list = append(list, key+"="+item.Text())
		}
		return list, true
	case manifest.KindNull:
		return nil, false
	}
	return []string{value.Text()}, true
}

// flagName is a setting's name as the command line has it: registryMirror is --registry-mirror.
func flagName(key string) string {
	var b strings.Builder
	for _, r := range key {
		if r >= 'A' && r <= 'Z' {
			b.WriteByte('-')
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// camelCase is the inverse of flagName.
func camelCase(flag string) string {
	parts := strings.Split(flag, "-")
	for i := 1; i < len(parts); i++ {
		if parts[i] != "" {
			parts[i] = strings.ToUpper(parts[i][:1]) + parts[i][1:]
		}
	}
	return strings.Join(parts, "")
}
