package local

import (
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/manifest"
)

// Fields says what of a manifest one machine does not do, whichever way its pods are executed.
func Fields() executor.Fields {
	return executor.Fields{
		Types: map[string]manifest.Limit{
			"WorkflowSpec": {
				NoEffect: []string{
					"serviceAccountName", "automountServiceAccountToken", "executor", "nodeSelector", "affinity", "tolerations", "schedulerName",
					"podPriorityClassName", "podPriority", "podDisruptionBudget", "podResources", "executorPlugins",
				},
				Refused: []string{"resourceClaims"},
			},
			"Template": {
				NoEffect: []string{
					"serviceAccountName", "automountServiceAccountToken", "executor", "nodeSelector", "affinity", "tolerations", "schedulerName",
					"priorityClassName", "priority", "podResources",
				},
				Refused: []string{"resourceClaims"},
			},
			"RetryStrategy": {NoEffect: []string{"affinity"}},
			"Container": {
				NoEffect: []string{
					"livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "stdin", "stdinOnce", "tty", "terminationMessagePath",
					"terminationMessagePolicy", "resizePolicy", "restartPolicyRules",
				},
				Refused: []string{"volumeDevices"},
			},
		},
		Refusals: map[string]executor.Refusal{
			"resourceClaims": {Message: "devices cannot be claimed on this machine", Hint: "leave it out"},
			"volumeDevices":  {Message: "block devices are not supported on this machine", Hint: "mount a volume instead"},
		},
	}
}
