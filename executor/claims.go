package executor

import (
	"context"

	corev1 "k8s.io/api/core/v1"
)

// Claim is a PersistentVolumeClaim: storage that outlives pods, and that pods of its namespace mount by its name.
type Claim struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Owner is what the claim was made for, an [ID]'s Owner; empty for one that belongs to nobody in particular.
	Owner string `json:"owner,omitempty"`
	// Spec is Kubernetes' own: size, access modes, storage class.
	Spec corev1.PersistentVolumeClaimSpec `json:"spec"`
}

// Claims keeps PersistentVolumeClaims. Methods may be repeated.
type Claims interface {
	// CreateClaim makes a claim. One that is there and has the same owner is left as it is; with another owner it is an error.
	CreateClaim(ctx context.Context, c Claim) error
	// FindClaim gives a claim; ErrNotFound if there is none.
	FindClaim(ctx context.Context, namespace, name string) (Claim, error)
	// DeleteClaim removes a claim and what is in it; one that is not there is no error. While a pod that has not been
	// acknowledged mounts it nothing is removed, and the error is a [TransientError].
	DeleteClaim(ctx context.Context, namespace, name string) error
}
