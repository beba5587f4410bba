package executor

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/manifest"
)

// Ability names something that an executor may be able to do.
type Ability string

// The abilities.
const (
	AbilityImages         Ability = "images"         // containers have the root file system of their image
	AbilityHostView       Ability = "hostView"       // containers see the files of the machine that they run on
	AbilityNetwork        Ability = "network"        // each pod has an address and ports of its own
	AbilityUserNamespaces Ability = "userNamespaces" // root in a pod is nobody outside
	AbilityClaims         Ability = "claims"         // pods mount PersistentVolumeClaims
	AbilityCommands       Ability = "commands"       // commands can be run in a container
)

// Capabilities is what can be had from an executor.
type Capabilities struct {
	// Can has the abilities that can be had.
	Can map[Ability]bool `json:"can"`
	// Why says of those that cannot be had what keeps them away and what to do about it.
	Why map[Ability]string `json:"why,omitempty"`
	// Limits are the resources of resources.limits that hold here.
	Limits []corev1.ResourceName `json:"limits,omitempty"`
	// Fields say what of a manifest has no effect here or is refused.
	Fields Fields `json:"fields"`
}

// Fields are fields of manifests, the manifest room's and Kubernetes' own, that an executor does not do.
type Fields struct {
	// Types has them by Go type: "Template", "Container". A field is named as manifests name it.
	Types map[string]manifest.Limit `json:"types,omitempty"`
	// Refusals say of each refused field why, and what to do instead.
	Refusals map[string]Refusal `json:"refusals,omitempty"`
}

// Refusal is why a field is refused.
type Refusal struct {
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}
