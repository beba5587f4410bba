package client

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tiphys/tiphys/artifact/image/pack"
)

func (c *client) imagePack(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("image pack", flag.ContinueOnError)
	var o pack.Options
	var labels list
	name, tag := fs.String("name", "", ""), fs.String("tag", "", "")
	base, output := fs.String("base", "scratch", ""), fs.String("output", "", "")
	fs.Var((*list)(&o.Entrypoint), "entrypoint", "")
	fs.Var((*list)(&o.Cmd), "cmd", "")
	fs.Var((*list)(&o.Env), "env", "")
	fs.Var((*list)(&o.Ports), "port", "")
	fs.Var(&labels, "label", "")
	fs.StringVar(&o.User, "user", "", "")
	fs.StringVar(&o.WorkingDir, "workdir", "", "")
	fs.StringVar(&o.Arch, "arch", "", "")
	rest, err := parse(fs, args, 1, 1, "one PATH, a folder or a static binary")
	switch {
	case err != nil:
		return err
	case *name == "":
		return usagef("image pack: --name is missing, such as harbour/api")
	case strings.ContainsAny(*name, "@:"):
		return usagef("image pack: --name %s has a tag or digest; give the tag with --tag", *name)
	case *base != "scratch":
		return usagef("image pack: --base %s; only scratch can be packed on", *base)
	}
	for _, l := range labels {
		key, value, ok := strings.Cut(l, "=")
		if !ok {
			return usagef("image pack: --label %s is not of the form NAME=VALUE", l)
		}
		if o.Labels == nil {
			o.Labels = map[string]string{}
		}
		o.Labels[key] = value
	}
	o.Path = rest[0]
	img, err := pack.Build(o)
	if err != nil {
		return err
	}
	defer func() { _ = img.Close() }()
	if err := c.push(ctx, *name, *tag, img); err != nil {
		return err
	}
	ref := *name + "@" + img.Digest
	if *output != "" {
		if err := os.WriteFile(*output, []byte(ref), 0o644); err != nil { //nolint:gosec // others shall read it
			return fmt.Errorf("write --output: %w", err)
		}
	}
	_, err = fmt.Fprintln(c.sys.stdout, ref)
	return err
}

// push sends what the registry does not have yet; the manifest comes last, so that it never names what is not there.
func (c *client) push(ctx context.Context, name, tag string, img *pack.Image) error {
	config := img.ConfigDescriptor()
	layer := img.OpenLayer().(io.ReadSeeker) //nolint:forcetypeassert // a section of a file
	for _, b := range []struct {
		d    pack.Descriptor
		body io.ReadSeeker
	}{{img.Layer, layer}, {config, bytes.NewReader(img.Config)}} {
		path := "/v2/" + name + "/blobs/"
		answer, err := c.do(ctx, request{method: "HEAD", path: path + b.d.Digest, mayFail: true})
		if err != nil {
			return err
		}
		if answer.status == 200 {
			continue
		}
		_, err = c.do(ctx, request{
			method: "POST", path: path + "uploads/?digest=" + url.QueryEscape(b.d.Digest),
			body: b.body, contentType: "application/octet-stream",
		})
		if err != nil {
			return fmt.Errorf("push to %s: %w", name, err)
		}
	}
	if tag == "" {
		tag = img.Digest
	}
	_, err := c.do(ctx, request{
		method: "PUT", path: "/v2/" + name + "/manifests/" + url.PathEscape(tag),
		body: bytes.NewReader(img.Manifest), contentType: pack.ManifestType,
	})
	if err != nil {
		return fmt.Errorf("push to %s: %w", name, err)
	}
	return nil
}

func (c *client) release(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("release", flag.ContinueOnError)
	var images list
	fs.Var(&images, "image", "")
	commit := fs.String("commit", "", "")
	rest, err := parse(fs, args, 1, 1, "one NAME")
	if err != nil {
		return err
	}
	named := map[string]string{}
	for _, i := range images {
		service, ref, ok := strings.Cut(i, "=")
		switch {
		case !ok || service == "":
			return usagef("release: --image %s is not of the form SERVICE=REF@DIGEST", i)
		case !strings.Contains(ref, "@sha256:"):
			return usagef("release: --image %s has no digest; a tag may change, a release may not (use what \"tiphys image pack\" printed)", i)
		case named[service] != "":
			return usagef("release: --image names %s twice", service)
		}
		named[service] = ref
	}
	if len(named) == 0 {
		return usagef("release: --image is missing")
	}
	err = c.post(ctx, "/api/v1/step/releases", struct {
		Name   string            `json:"name"`
		Images map[string]string `json:"images"`
		Commit string            `json:"commit,omitempty"`
	}{rest[0], named, *commit})
	if err == nil {
		_, err = fmt.Fprintf(c.sys.stdout, "release %s\n", rest[0])
	}
	return err
}

func (c *client) status(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("status", flag.ContinueOnError)
	var s struct {
		State       string `json:"state"`
		Context     string `json:"context"`
		Description string `json:"description,omitempty"`
		URL         string `json:"url,omitempty"`
		Repo        string `json:"repo,omitempty"`
		SHA         string `json:"sha,omitempty"`
	}
	fs.StringVar(&s.State, "state", "", "")
	fs.StringVar(&s.Context, "context", "", "")
	fs.StringVar(&s.Description, "description", "", "")
	fs.StringVar(&s.URL, "url", "", "")
	fs.StringVar(&s.Repo, "repo", "", "")
	fs.StringVar(&s.SHA, "sha", "", "")
	if _, err := parse(fs, args, 0, 0, "only flags"); err != nil {
		return err
	}
	if !slices.Contains([]string{"success", "failed", "pending", "running"}, s.State) {
		return usagef("status: --state is %q; expected success, failed, pending or running", s.State)
	}
	if s.Context == "" {
		return usagef("status: --context is missing, a name for what the status is about")
	}
	return c.post(ctx, "/api/v1/step/statuses", s)
}

// maxComment is the longest comment, in bytes; forges take less or no more than a megabyte.
const maxComment = 1 << 20

func (c *client) comment(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("comment", flag.ContinueOnError)
	var body struct {
		Marker string `json:"marker,omitempty"`
		Body   string `json:"body"`
		MR     int    `json:"mr,omitempty"`
	}
	fs.StringVar(&body.Marker, "marker", "", "")
	fs.IntVar(&body.MR, "mr", 0, "")
	file := fs.String("file", "", "")
	rest, err := parse(fs, args, 0, 1, "one TEXT in quotes, or --file")
	if err != nil {
		return err
	}
	switch {
	case *file != "" && len(rest) > 0, *file == "" && len(rest) == 0:
		return usagef("comment: expected one TEXT in quotes, or --file")
	case *file != "":
		if body.Body, err = c.readText(*file); err != nil {
			return err
		}
	default:
		body.Body = rest[0]
	}
	if strings.TrimSpace(body.Body) == "" {
		return usagef("comment: the text is empty")
	}
	return c.post(ctx, "/api/v1/step/comments", body)
}

func (c *client) readText(file string) (string, error) {
	r := c.sys.stdin
	if file != "-" {
		f, err := os.Open(file) //nolint:gosec // the user names it
		if err != nil {
			return "", fmt.Errorf("read comment: %w", err)
		}
		defer func() { _ = f.Close() }()
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, maxComment+1))
	if err != nil {
		return "", fmt.Errorf("read comment: %w", err)
	}
	if len(b) > maxComment {
		return "", fmt.Errorf("the comment is longer than %d bytes; put it into an artifact and link to that", maxComment)
	}
	return string(b), nil
}

func artifactPath(key string) (string, error) {
	for segment := range strings.SplitSeq(key, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return "", usagef("artifact: the key %q; it must not begin or end with a slash or have . or .. in it", key)
		}
	}
	segments := strings.Split(key, "/")
	for i := range segments {
		segments[i] = url.PathEscape(segments[i])
	}
	return "/api/v1/step/artifacts/" + strings.Join(segments, "/"), nil
}

// escape writes one segment of a path.
func escape(name string) string { return url.PathEscape(name) }

func (c *client) artifactPut(ctx context.Context, args []string) error {
	rest, err := parse(flag.NewFlagSet("artifact put", flag.ContinueOnError), args, 2, 2, "KEY and FILE, or KEY and -")
	if err != nil {
		return err
	}
	path, err := artifactPath(rest[0])
	if err != nil {
		return err
	}
	f, err := c.input(rest[1])
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	_, err = c.do(ctx, request{method: "PUT", path: path, body: f, contentType: "application/octet-stream", digest: true})
	return err
}

// input opens a file. Standard input is written to a temporary one, so that it can be sent again.
func (c *client) input(name string) (*os.File, error) {
	if name != "-" {
		f, err := os.Open(name) //nolint:gosec // the user names it
		if err != nil {
			return nil, err
		}
		if info, err := f.Stat(); err == nil && info.IsDir() {
			_ = f.Close()
			return nil, usagef("artifact put: %s is a folder; pack it first, such as with tar", name)
		}
		return f, nil
	}
	f, err := os.CreateTemp("", "artifact-")
	if err != nil {
		return nil, fmt.Errorf("keep standard input: %w", err)
	}
	_ = os.Remove(f.Name())
	if _, err := io.Copy(f, c.sys.stdin); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("keep standard input: %w", err)
	}
	return f, nil
}

func (c *client) artifactGet(ctx context.Context, args []string) error {
	rest, err := parse(flag.NewFlagSet("artifact get", flag.ContinueOnError), args, 1, 2, "KEY, and perhaps FILE")
	if err != nil {
		return err
	}
	path, err := artifactPath(rest[0])
	if err != nil {
		return err
	}
	// Written to a file first, so that a transfer that breaks can begin again, and nobody sees half of it.
	dir := ""
	if len(rest) == 2 {
		dir = filepath.Dir(rest[1])
	}
	f, err := os.CreateTemp(dir, ".artifact-")
	if err != nil {
		return fmt.Errorf("make file: %w", err)
	}
	defer func() { _, _ = f.Close(), os.Remove(f.Name()) }()
	if _, err := c.do(ctx, request{method: "GET", path: path, into: f}); err != nil {
		return err
	}
	if len(rest) == 2 {
		if err := f.Chmod(0o644); err != nil {
			return err
		}
		return os.Rename(f.Name(), rest[1])
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = io.Copy(c.sys.stdout, f)
	return err
}

func (c *client) artifactList(ctx context.Context, args []string) error {
	rest, err := parse(flag.NewFlagSet("artifact ls", flag.ContinueOnError), args, 0, 1, "at most one PREFIX")
	if err != nil {
		return err
	}
	prefix := ""
	if len(rest) == 1 {
		prefix = rest[0]
	}
	answer, err := c.do(ctx, request{method: "GET", path: "/api/v1/step/artifacts?prefix=" + url.QueryEscape(prefix)})
	if err != nil {
		return err
	}
	var found struct {
		Items []struct {
			Key    string `json:"key"`
			Digest string `json:"digest"`
			Size   int64  `json:"size"`
		} `json:"items"`
	}
	if err := json.Unmarshal(answer.body, &found); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	for _, i := range found.Items {
		if _, err := fmt.Fprintf(c.sys.stdout, "%s\t%d\t%s\n", i.Key, i.Size, i.Digest); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) whoami(ctx context.Context, args []string) error {
	if _, err := parse(flag.NewFlagSet("whoami", flag.ContinueOnError), args, 0, 0, "no arguments"); err != nil {
		return err
	}
	answer, err := c.do(ctx, request{method: "GET", path: "/api/v1/step"})
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if json.Indent(&b, answer.body, "", "  ") != nil {
		b.Reset()
		b.Write(answer.body)
	}
	_, err = fmt.Fprintln(c.sys.stdout, strings.TrimSpace(b.String()))
	return err
}

func (c *client) post(ctx context.Context, path string, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	_, err = c.do(ctx, request{method: "POST", path: path, body: bytes.NewReader(b), contentType: "application/json"})
	return err
}
