package local

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/protocol"
)

const (
	// storageInterval is how often a pod's files are counted; counting takes at most a tenth of the time.
	storageInterval = time.Second
	// evictionGrace is what an evicted pod has left (kubelet, eviction_manager.go: immediateEvictionGracePeriodSeconds).
	evictionGrace = time.Second
)

// watchStorage ends the pod when it has more in its own files, folders and logs than its limit, as Kubernetes evicts it
// (its docs, "Resource consumption for ephemeral-storage"). It returns when the pod has ended.
func (a *attempt) watchStorage(limit int64) {
	wait := storageInterval
	for {
		t := time.NewTimer(wait)
		select {
		case <-a.concluded:
			t.Stop()
			return
		case <-a.e.ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		began := a.e.o.Now()
		if a.storage() > limit {
			_ = a.send(protocol.Request{Op: protocol.OpStop, Reason: executor.ReasonEvicted, Grace: evictionGrace})
			return
		}
		wait = max(storageInterval, 10*a.e.o.Now().Sub(began))
	}
}

// storage counts the bytes on disk of what the pod writes. What vanishes meanwhile is not counted.
func (a *attempt) storage() int64 {
	var total int64
	for _, dir := range []string{a.workFolder(), filepath.Join(a.dir, protocol.LogFolder), a.spillFolder()} {
		if dir == "" {
			continue
		}
		_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil //nolint:nilerr // it has vanished
			}
			info, err := d.Info()
			if err != nil {
				return nil //nolint:nilerr // it has vanished
			}
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				total += st.Blocks * 512
			}
			return nil
		})
	}
	return total
}

// spillFolder is where a long log goes on; empty if it stays with the attempt.
func (a *attempt) spillFolder() string {
	if a.e.o.Scratch == "" {
		return ""
	}
	return filepath.Join(a.e.o.Scratch, "logs", a.name)
}

// evictedMessage says why a pod was evicted.
func evictedMessage(limit int64) string {
	return fmt.Sprintf("the pod used more than the limit of %s of ephemeral storage", resource.NewQuantity(limit, resource.BinarySI))
}
