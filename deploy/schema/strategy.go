package schema

import (
	"k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	podoptions "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/apps"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/batch"
	batchvalidation "k8s.io/kubernetes/pkg/apis/batch/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
)

// What the API server does between an object's decoding and its rules, for those kinds where the rules alone would refuse what users write.

func createPod(o *core.Pod) field.ErrorList {
	opts := podoptions.GetValidationOptionsFromPodSpecAndMeta(&o.Spec, nil, &o.ObjectMeta, nil)
	opts.ResourceIsPod = true
	return corevalidation.ValidatePodCreate(o, opts)
}

func updatePod(now, old *core.Pod) field.ErrorList {
	opts := podoptions.GetValidationOptionsFromPodSpecAndMeta(&now.Spec, &old.Spec, &now.ObjectMeta, &old.ObjectMeta)
	opts.ResourceIsPod = true
	return corevalidation.ValidatePodUpdate(now, old, opts)
}

// addresses writes a Service's address in both places, and gives it the port that the server would.
func addresses(s *core.Service) {
	if len(s.Spec.ClusterIPs) == 0 && s.Spec.ClusterIP != "" {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
	if s.Spec.Type == core.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == core.ServiceExternalTrafficPolicyLocal && s.Spec.HealthCheckNodePort == 0 {
		s.Spec.HealthCheckNodePort = firstNodePort
	}
}

// firstNodePort is the first of those that Kubernetes gives.
const firstNodePort = 30000

func createService(o *core.Service) field.ErrorList {
	addresses(o)
	return corevalidation.ValidateServiceCreate(o)
}

// updateService judges a change of a Service. Its addresses are the server's to give: what a manifest leaves out of them stays.
func updateService(now, old *core.Service) field.ErrorList {
	addresses(now)
	addresses(old)
	if len(now.Spec.ClusterIPs) == 0 && now.Spec.Type != core.ServiceTypeExternalName && old.Spec.Type != core.ServiceTypeExternalName {
		now.Spec.ClusterIP, now.Spec.ClusterIPs = old.Spec.ClusterIP, old.Spec.ClusterIPs
	}
	if now.Spec.IPFamilyPolicy == nil {
		now.Spec.IPFamilyPolicy = old.Spec.IPFamilyPolicy
	}
	if len(now.Spec.IPFamilies) == 0 {
		now.Spec.IPFamilies = old.Spec.IPFamilies
	}
	return corevalidation.ValidateServiceUpdate(now, old)
}

// updateDaemonSet judges a change of a DaemonSet, whose generation of the template is the server's to count (pkg/registry/apps/daemonset/strategy.go).
func updateDaemonSet(now, old *apps.DaemonSet) field.ErrorList {
	now.Spec.TemplateGeneration = old.Spec.TemplateGeneration
	if !equality.Semantic.DeepEqual(now.Spec.Template, old.Spec.Template) {
		now.Spec.TemplateGeneration++
	}
	return appsvalidation.ValidateDaemonSetUpdate(now, old, podoptions.GetValidationOptionsFromPodTemplate(&now.Spec.Template, &old.Spec.Template))
}

// A Job's pods get labels of the Job, by which it knows them.
func selectPods(j *batch.Job) {
	if j.Spec.ManualSelector != nil && *j.Spec.ManualSelector {
		return
	}
	labels := map[string]string{batch.LegacyJobNameLabel: j.Name, batch.JobNameLabel: j.Name,
		batch.LegacyControllerUidLabel: string(j.UID), batch.ControllerUidLabel: string(j.UID)}
	if j.Spec.Template.Labels == nil {
		j.Spec.Template.Labels = map[string]string{}
	}
	for name, value := range labels {
		if _, said := j.Spec.Template.Labels[name]; !said {
			j.Spec.Template.Labels[name] = value
		}
	}
	if j.Spec.Selector == nil {
		j.Spec.Selector = &apimeta.LabelSelector{}
	}
	if j.Spec.Selector.MatchLabels == nil {
		j.Spec.Selector.MatchLabels = map[string]string{}
	}
	if _, said := j.Spec.Selector.MatchLabels[batch.ControllerUidLabel]; !said {
		j.Spec.Selector.MatchLabels[batch.ControllerUidLabel] = string(j.UID)
	}
}

func createJob(o *batch.Job) field.ErrorList {
	if o.UID == "" {
		o.UID = "new"
	}
	selectPods(o)
	return batchvalidation.ValidateJob(o, batchvalidation.JobValidationOptions{
		PodValidationOptions: podoptions.GetValidationOptionsFromPodTemplate(&o.Spec.Template, nil), RequirePrefixedLabels: true})
}

func updateJob(now, old *batch.Job) field.ErrorList {
	if old.UID == "" {
		old.UID = "old"
	}
	now.UID = old.UID
	selectPods(now)
	selectPods(old)
	opts := batchvalidation.JobValidationOptions{
		PodValidationOptions: podoptions.GetValidationOptionsFromPodTemplate(&now.Spec.Template, &old.Spec.Template), RequirePrefixedLabels: true}
	return append(batchvalidation.ValidateJob(now, opts), batchvalidation.ValidateJobUpdate(now, old, opts)...)
}
