package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// containers measures ten sequential container steps, each with an image and a network of its own, the whole process, beside ten bare
// unshare processes with the same namespaces. The image is one small program; the first step fetches it from a registry on this machine.
func containers(ctx context.Context, program string) error {
	dir, err := os.MkdirTemp("", "tiphys-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer srv.Close()
	image := strings.TrimPrefix(srv.URL, "http://") + "/nothing:1"
	if err := pushNothing(ctx, dir, image); err != nil {
		return fmt.Errorf("make an image: %w", err)
	}
	var list []string
	for i := range 10 {
		list = append(list, fmt.Sprintf("[{name: s%d, template: one}]", i))
	}
	text := fmt.Sprintf(tenSteps, strings.Join(list, ", "))
	text = strings.Replace(text, `{image: busybox, command: ["true"]}`, fmt.Sprintf(`{image: %q, command: [/nothing]}`, image), 1)
	file := filepath.Join(dir, "ten.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	var ours, bare usages
	for range rounds {
		if err := ours.measure(func() error { return quiet(ctx, program, "run", "--executor", "container", "-q", file) }); err != nil {
			return err
		}
		if err := bare.measure(func() error {
			for range 10 {
				if err := quiet(ctx, "unshare", "-m", "-p", "-u", "-i", "-n", "-f", "--mount-proc", "true"); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	fmt.Printf("ten sequential steps, container executor, whole process: %s (want ≤ 400ms); ten bare unshare with a network: %s; ratio %.1f\n",
		median(ours.wall), median(bare.wall), float64(median(ours.wall))/float64(median(bare.wall)))
	fmt.Printf("the same in processor time of all processes: %s; ten bare unshare with a network: %s; ratio %.1f\n",
		median(ours.cpu), median(bare.cpu), float64(median(ours.cpu))/float64(median(bare.cpu)))
	return nil
}

// pushNothing makes an image of one program that ends at once.
func pushNothing(ctx context.Context, dir, image string) error {
	source, binary := filepath.Join(dir, "nothing.go"), filepath.Join(dir, "nothing")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w", "-o", binary, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build a program: %w: %s", err, out)
	}
	body, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Name: "nothing", Mode: 0o755, Size: int64(len(body)), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	if _, err := w.Write(body); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	img, err := mutate.AppendLayers(empty.Image, static.NewLayer(layer.Bytes(), types.OCIUncompressedLayer))
	if err != nil {
		return err
	}
	ref, err := name.ParseReference(image)
	if err != nil {
		return err
	}
	return remote.Write(ref, img, remote.WithContext(ctx))
}
