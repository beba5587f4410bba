package local

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// HostImages tells the host executor, which ignores images, what steps may take for granted in them: the commands
// they begin with and programs that this machine has not.
type HostImages struct {
	// Files maps a path in the step's view to a file of this machine.
	Files map[string]string `json:"files,omitempty"`
	// Images maps an image, without registry and tag or with them, to its entry point and command.
	Images map[string]HostImage `json:"images,omitempty"`
}

// HostImage is what an image's configuration would say.
type HostImage struct {
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
}

// ReadHostImages reads a YAML file; paths of files are relative to it.
func ReadHostImages(path string) (HostImages, error) {
	var h HostImages
	data, err := os.ReadFile(path)
	if err != nil {
		return h, fmt.Errorf("read host images: %w", err)
	}
	if err := yaml.UnmarshalStrict(data, &h); err != nil {
		return h, fmt.Errorf("%s: %w", path, err)
	}
	folder, err := filepath.Abs(filepath.Dir(path)) // steps have folders of their own
	if err != nil {
		return h, fmt.Errorf("read host images: %w", err)
	}
	for dest, src := range h.Files {
		if !filepath.IsAbs(src) {
			h.Files[dest] = filepath.Join(folder, src)
		}
	}
	return h, nil
}

// Command gives an image's entry point and command; nothing for an image that is not listed.
func (h HostImages) Command(image string) (entrypoint, cmd []string) {
	for _, name := range []string{image, withoutRegistry(image), withoutTag(withoutRegistry(image))} {
		if i, ok := h.Images[name]; ok {
			return i.Entrypoint, i.Cmd
		}
	}
	return nil, nil
}

func withoutRegistry(image string) string {
	first, rest, ok := strings.Cut(image, "/")
	if ok && (strings.ContainsAny(first, ".:") || first == "localhost") {
		return rest
	}
	return image
}

func withoutTag(image string) string {
	if i := strings.LastIndexAny(image, ":@"); i > strings.LastIndex(image, "/") {
		return image[:i]
	}
	return image
}
