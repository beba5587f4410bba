package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/protocol"
)

// A claim is the folder claims/NAMESPACE/NAME of the volume folder. What it was made for stands beside it in .NAME.json;
// without that file it belongs to nobody in particular.

func (e *Executor) claimFolder(namespace, name string) string {
	return filepath.Join(e.o.Volumes, "claims", namespace, name)
}

func (e *Executor) claimFile(namespace, name string) string {
	return filepath.Join(e.o.Volumes, "claims", namespace, "."+name+".json")
}

// namespaceOf is a pod's namespace, which need not be written.
func namespaceOf(p *executor.Pod) string {
	if p.Pod.Namespace == "" {
		return "default"
	}
	return p.Pod.Namespace
}

// claimName refuses what Kubernetes would not take for names, which leads out of the volume folder, too.
func claimName(namespace, name string) error {
	if problems := validation.IsDNS1123Label(namespace); len(problems) > 0 {
		return fmt.Errorf("namespace %q: %s", namespace, problems[0])
	}
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		return fmt.Errorf("persistentvolumeclaim %q: %s", name, problems[0])
	}
	return nil
}

// CreateClaim implements executor.Claims.
func (e *Executor) CreateClaim(ctx context.Context, c executor.Claim) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	dir, made, err := e.ensureClaim(c)
	if err == nil && made {
		// A pod's fsGroup may be told later; without one everybody may write.
		err = errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, 0o777))
	}
	if err != nil {
		return fmt.Errorf("create claim %s/%s: %w", c.Namespace, c.Name, err)
	}
	return nil
}

// ensureClaim gives a claim's folder, and whether it has yet to be made.
func (e *Executor) ensureClaim(c executor.Claim) (dir string, made bool, err error) {
	if err := claimName(c.Namespace, c.Name); err != nil {
		return "", false, err
	}
	e.claims.Lock()
	defer e.claims.Unlock()
	dir = e.claimFolder(c.Namespace, c.Name)
	was, err := e.claim(c.Namespace, c.Name)
	switch {
	case err == nil && c.Owner != "" && was.Owner != c.Owner:
		return "", false, fmt.Errorf("claim %s/%s was made for somebody else", c.Namespace, c.Name)
	case err == nil:
		return dir, false, nil
	case !errors.Is(err, executor.ErrNotFound):
		return "", false, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o711); err != nil {
		return "", false, err
	}
	file := e.claimFile(c.Namespace, c.Name)
	if c.Owner == "" {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", false, err
		}
		return dir, true, nil
	}
	data, err := json.Marshal(c)
	if err != nil {
		return "", false, err
	}
	return dir, true, protocol.WriteFile(file, data, !e.o.NoSync)
}

// claim reads a claim back.
func (e *Executor) claim(namespace, name string) (executor.Claim, error) {
	c := executor.Claim{Namespace: namespace, Name: name}
	if _, err := os.Stat(e.claimFolder(namespace, name)); errors.Is(err, fs.ErrNotExist) {
		return c, executor.ErrNotFound
	} else if err != nil {
		return c, err
	}
	data, err := os.ReadFile(e.claimFile(namespace, name))
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(data, &c)
}

// FindClaim implements executor.Claims.
func (e *Executor) FindClaim(ctx context.Context, namespace, name string) (executor.Claim, error) {
	err := ctx.Err()
	if err == nil {
		err = claimName(namespace, name)
	}
	var c executor.Claim
	if err == nil {
		e.claims.Lock()
		defer e.claims.Unlock()
		c, err = e.claim(namespace, name)
	}
	if err != nil {
		return executor.Claim{}, fmt.Errorf("find claim %s/%s: %w", namespace, name, err)
	}
	return c, nil
}

// DeleteClaim implements executor.Claims.
func (e *Executor) DeleteClaim(ctx context.Context, namespace, name string) error {
	err := ctx.Err()
	if err == nil {
		err = claimName(namespace, name)
	}
	if err == nil {
		err = e.deleteClaim(namespace, name)
	}
	if err != nil {
		return fmt.Errorf("delete claim %s/%s: %w", namespace, name, err)
	}
	return nil
}

// deletedPrefix begins the names of claims' folders on their way out.
const deletedPrefix = "deleted-"

func (e *Executor) deleteClaim(namespace, name string) error {
	e.claims.Lock()
	defer e.claims.Unlock()
	if user := e.claimUser(namespace, name); user != "" {
		return &executor.TransientError{Err: fmt.Errorf("pod %s has it mounted", user)}
	}
	away, err := os.MkdirTemp(e.o.Volumes, deletedPrefix)
	if err != nil {
		return err
	}
	err = os.Rename(e.claimFolder(namespace, name), filepath.Join(away, "claim"))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil {
		if err = os.Remove(e.claimFile(namespace, name)); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	return errors.Join(err, os.RemoveAll(away))
}

// claimUser names a pod that mounts a claim; empty if there is none.
func (e *Executor) claimUser(namespace, name string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, a := range e.attempts {
		if namespaceOf(&a.pod) != namespace {
			continue
		}
		for _, v := range a.pod.Pod.Spec.Volumes {
			if v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == name {
				return id.Node
			}
		}
	}
	return ""
}

// sweepClaims removes what a deletion left when it was broken off.
func (e *Executor) sweepClaims() {
	entries, err := os.ReadDir(e.o.Volumes)
	if err != nil {
		e.o.Log.Warn("sweep claims", "error", err)
		return
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), deletedPrefix) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(e.o.Volumes, entry.Name())); err != nil {
			e.o.Log.Warn("remove a deleted claim", "folder", entry.Name(), "error", err)
		}
	}
}
