package workflow

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// The strategies of volumeClaimGC. Without one claims go when the run succeeds (Argo Workflows, docs/fields.md, VolumeClaimGC).
const (
	claimsOnCompletion = "OnWorkflowCompletion"
	claimsOnSuccess    = "OnWorkflowSuccess"
)

// claimName is the name of a claim that is made of a run's template, as Argo names it.
func claimName(run, template string) string { return run + "-" + template }

// claimsOf names the claims that are made of a run's templates.
func claimsOf(run Run, templates []corev1.PersistentVolumeClaim) DeleteClaims {
	e := DeleteClaims{Owner: run.UID, Namespace: run.Namespace}
	for _, c := range templates {
		e.Names = append(e.Names, claimName(run.Name, c.Name))
	}
	return e
}

// ClaimsOf names the claims of a run by the body of its entry of [KindSubmitted]; a run without claim templates has none.
func ClaimsOf(body json.RawMessage) (DeleteClaims, error) {
	var b struct {
		UID       string `json:"uid"`
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
		Workflow  struct {
			Spec struct {
				VolumeClaimTemplates []corev1.PersistentVolumeClaim `json:"volumeClaimTemplates"`
			} `json:"spec"`
		} `json:"workflow"`
	}
	if err := json.Unmarshal(body, &b); err != nil {
		return DeleteClaims{}, fmt.Errorf("read claims of a run: %w", err)
	}
	return claimsOf(Run{UID: b.UID, Namespace: b.Namespace, Name: b.Name}, b.Workflow.Spec.VolumeClaimTemplates), nil
}

// collectClaims has the claims of a run that ends deleted, if its volumeClaimGC says so.
func (t *turn) collectClaims(phase Phase) {
	spec := t.s.spec
	if len(spec.VolumeClaimTemplates) == 0 {
		return
	}
	strategy := claimsOnSuccess
	if gc := spec.VolumeClaimGC; gc != nil && gc.Strategy != "" {
		strategy = gc.Strategy
	}
	if strategy == claimsOnCompletion || phase == Succeeded {
		t.effect(claimsOf(t.s.run, spec.VolumeClaimTemplates))
	}
}
