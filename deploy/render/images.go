package render

import "strings"

// Override replaces the images of containers wherever they stand in an object and marks the keys it used.
//
// A key matches an image by its repository with registry ("r.example.org/harbour/api"), by its repository without
// ("harbour/api"), or by the repository's last part ("api"), in this order; tag and digest of the image do
// not matter, and a tag on the key is ignored. A value that begins with "@" or "sha256:" keeps the repository.
func Override(node any, images map[string]string, used map[string]bool) {
	if len(images) == 0 {
		return
	}
	switch n := node.(type) {
	case map[string]any:
		for key, value := range n {
			if key == "containers" || key == "initContainers" {
				overrideList(value, images, used)
			}
			Override(value, images, used)
		}
	case []any:
		for _, item := range n {
			Override(item, images, used)
		}
	}
}

func overrideList(node any, images map[string]string, used map[string]bool) {
	list, _ := node.([]any)
	for _, item := range list {
		container, _ := item.(map[string]any)
		image, _ := container["image"].(string)
		if image == "" {
			continue
		}
		if key, to := pick(image, images); key != "" {
			used[key] = true
			container["image"] = to
		}
	}
}

func pick(image string, images map[string]string) (key, to string) {
	full := repositoryOf(image)
	short := withoutRegistry(full)
	best := 0
	for k, value := range images {
		name := repositoryOf(k)
		score := 0
		switch name {
		case full:
			score = 3
		case short:
			score = 2
		case short[strings.LastIndex(short, "/")+1:]:
			score = 1
		}
		if score > best || (score == best && score > 0 && k < key) {
			best, key, to = score, k, value
		}
	}
	switch {
	case strings.HasPrefix(to, "@"):
		to = full + to
	case strings.HasPrefix(to, "sha256:"):
		to = full + "@" + to
	}
	return key, to
}

// repositoryOf is an image reference without tag and digest. A colon before the last slash is a port's.
func repositoryOf(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if colon := strings.LastIndex(image, ":"); colon > strings.LastIndex(image, "/") {
		return image[:colon]
	}
	return image
}

// withoutRegistry drops a registry's host: a first part with a dot or a port, or localhost.
func withoutRegistry(repository string) string {
	first, rest, found := strings.Cut(repository, "/")
	if found && (strings.ContainsAny(first, ".:") || first == "localhost") {
		return rest
	}
	return repository
}
