package main

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
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
	if err := pushNothing(ctx, image); err != nil {
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

// nothing is the smallest program that this machine executes (elf(5)): it exits with 0. What it costs to start is hardly more than what
// it costs to have a process, which is what is measured.
func nothing() ([]byte, error) {
	machines := map[string]struct {
		number uint16 // elf.Machine
		code   []byte
	}{
		"amd64": {62, []byte{0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05}},                         // mov eax, 60; xor edi, edi; syscall
		"arm64": {183, []byte{0xa8, 0x0b, 0x80, 0xd2, 0x00, 0x00, 0x80, 0xd2, 0x01, 0, 0, 0xd4}}, // mov x8, 93; mov x0, 0; svc 0
	}
	m, ok := machines[runtime.GOARCH]
	if !ok {
		return nil, fmt.Errorf("there is no program for %s", runtime.GOARCH)
	}
	const base, headers = 0x400000, 64 + 56
	size := uint64(headers + len(m.code))
	var b bytes.Buffer
	err := errors.Join(
		binary.Write(&b, binary.LittleEndian, elf.Header64{
			Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
			Type:  uint16(elf.ET_EXEC), Machine: m.number, Version: uint32(elf.EV_CURRENT), Entry: base + headers, Phoff: 64,
			Ehsize: 64, Phentsize: 56, Phnum: 1,
		}),
		binary.Write(&b, binary.LittleEndian, elf.Prog64{
			Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Align: 0x1000,
		}),
	)
	return append(b.Bytes(), m.code...), err
}

// pushNothing makes an image of one program that ends at once.
func pushNothing(ctx context.Context, image string) error {
	body, err := nothing()
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
