package schema

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	podoptions "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/apps"
	appsrules "k8s.io/kubernetes/pkg/apis/apps/v1"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/batch"
	batchrules "k8s.io/kubernetes/pkg/apis/batch/v1"
	batchvalidation "k8s.io/kubernetes/pkg/apis/batch/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	corerules "k8s.io/kubernetes/pkg/apis/core/v1"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/networking"
	networkingrules "k8s.io/kubernetes/pkg/apis/networking/v1"
	networkingvalidation "k8s.io/kubernetes/pkg/apis/networking/validation"
	"k8s.io/kubernetes/pkg/apis/policy"
	policyrules "k8s.io/kubernetes/pkg/apis/policy/v1"
	policyvalidation "k8s.io/kubernetes/pkg/apis/policy/validation"

	"github.com/tiphys/tiphys/failure"
)

// kind is a kind that Kubernetes itself has.
type kind struct {
	// clustered objects have no namespace.
	clustered bool
	// made gives an object of the kind to decode into.
	made func() any
	// complete fills in what was left out, as the API server does.
	complete func(any)
	// judge says what is wrong with a completed object, as a new one or, where there is an old one, as a change.
	judge func(now, old any) (field.ErrorList, error)
}

// rules are those of a kind whose objects are written as V and judged as I.
type rules[V, I any] struct {
	defaults func(*V)
	convert  func(*V, *I, conversion.Scope) error
	create   func(*I) field.ErrorList
	update   func(now, old *I) field.ErrorList
}

func (r rules[V, I]) kind() kind {
	return kind{
		made: func() any { return new(V) },
		complete: func(o any) {
			if v, ok := o.(*V); ok && r.defaults != nil {
				r.defaults(v)
			}
		},
		judge: func(now, old any) (field.ErrorList, error) {
			n, err := r.inside(now)
			if err != nil {
				return nil, err
			}
			if old == nil {
				return r.create(n), nil
			}
			o, err := r.inside(old)
			if err != nil {
				return nil, err
			}
			return r.update(n, o), nil
		},
	}
}

// inside gives an object in the form that Kubernetes' rules are written for.
func (r rules[V, I]) inside(o any) (*I, error) {
	var in I
	v, ok := o.(*V)
	if !ok {
		return nil, fmt.Errorf("judge an object: it is a %T", o)
	}
	if err := r.convert(v, &in, nil); err != nil {
		return nil, failure.Invalidf("read the object: %v", err)
	}
	return &in, nil
}

func clustered(k kind) (kind, bool) {
	k.clustered = true
	return k, true
}

func namespaced(k kind) (kind, bool) { return k, true }

// kindOf gives the rules of a kind in a version; false if there are none here.
func kindOf(gvk schema.GroupVersionKind) (kind, bool) {
	switch gvk.GroupVersion().String() {
	case "v1":
		return ofCore(gvk.Kind)
	case "apps/v1":
		return ofApps(gvk.Kind)
	case "batch/v1":
		return ofBatch(gvk.Kind)
	case "networking.k8s.io/v1":
		return ofNetworking(gvk.Kind)
	}
	return ofOthers(gvk)
}

func ofCore(name string) (kind, bool) {
	switch name {
	case "Namespace":
		return clustered(rules[corev1.Namespace, core.Namespace]{corerules.SetObjectDefaults_Namespace, corerules.Convert_v1_Namespace_To_core_Namespace,
			corevalidation.ValidateNamespace, func(now, old *core.Namespace) field.ErrorList {
				return append(corevalidation.ValidateNamespace(now), corevalidation.ValidateNamespaceUpdate(now, old)...)
			}}.kind())
	case "ConfigMap":
		return namespaced(rules[corev1.ConfigMap, core.ConfigMap]{corerules.SetObjectDefaults_ConfigMap, corerules.Convert_v1_ConfigMap_To_core_ConfigMap,
			corevalidation.ValidateConfigMap, corevalidation.ValidateConfigMapUpdate}.kind())
	case "Secret":
		return namespaced(rules[corev1.Secret, core.Secret]{corerules.SetObjectDefaults_Secret, corerules.Convert_v1_Secret_To_core_Secret,
			corevalidation.ValidateSecret, corevalidation.ValidateSecretUpdate}.kind())
	case "ServiceAccount":
		return namespaced(rules[corev1.ServiceAccount, core.ServiceAccount]{nil, corerules.Convert_v1_ServiceAccount_To_core_ServiceAccount,
			corevalidation.ValidateServiceAccount, corevalidation.ValidateServiceAccountUpdate}.kind())
	case "Service":
		return namespaced(rules[corev1.Service, core.Service]{corerules.SetObjectDefaults_Service, corerules.Convert_v1_Service_To_core_Service,
			createService, updateService}.kind())
	case "Pod":
		return namespaced(rules[corev1.Pod, core.Pod]{corerules.SetObjectDefaults_Pod, corerules.Convert_v1_Pod_To_core_Pod, createPod, updatePod}.kind())
	case "PodTemplate":
		return namespaced(rules[corev1.PodTemplate, core.PodTemplate]{corerules.SetObjectDefaults_PodTemplate, corerules.Convert_v1_PodTemplate_To_core_PodTemplate,
			func(o *core.PodTemplate) field.ErrorList {
				return corevalidation.ValidatePodTemplate(o, podoptions.GetValidationOptionsFromPodTemplate(&o.Template, nil))
			}, func(now, old *core.PodTemplate) field.ErrorList {
				return corevalidation.ValidatePodTemplateUpdate(now, old, podoptions.GetValidationOptionsFromPodTemplate(&now.Template, &old.Template))
			}}.kind())
	case "ReplicationController":
		return namespaced(rules[corev1.ReplicationController, core.ReplicationController]{corerules.SetObjectDefaults_ReplicationController, corerules.Convert_v1_ReplicationController_To_core_ReplicationController,
			func(o *core.ReplicationController) field.ErrorList {
				return corevalidation.ValidateReplicationController(o, podoptions.GetValidationOptionsFromPodTemplate(o.Spec.Template, nil))
			}, func(now, old *core.ReplicationController) field.ErrorList {
				return corevalidation.ValidateReplicationControllerUpdate(now, old, podoptions.GetValidationOptionsFromPodTemplate(now.Spec.Template, old.Spec.Template))
			}}.kind())
	}
	return ofCoreStorage(name)
}

func ofCoreStorage(name string) (kind, bool) {
	switch name {
	case "PersistentVolumeClaim":
		return namespaced(rules[corev1.PersistentVolumeClaim, core.PersistentVolumeClaim]{corerules.SetObjectDefaults_PersistentVolumeClaim, corerules.Convert_v1_PersistentVolumeClaim_To_core_PersistentVolumeClaim,
			func(o *core.PersistentVolumeClaim) field.ErrorList {
				return corevalidation.ValidatePersistentVolumeClaim(o, corevalidation.ValidationOptionsForPersistentVolumeClaim(o, nil))
			}, func(now, old *core.PersistentVolumeClaim) field.ErrorList {
				return corevalidation.ValidatePersistentVolumeClaimUpdate(now, old, corevalidation.ValidationOptionsForPersistentVolumeClaim(now, old))
			}}.kind())
	case "PersistentVolume":
		return clustered(rules[corev1.PersistentVolume, core.PersistentVolume]{corerules.SetObjectDefaults_PersistentVolume, corerules.Convert_v1_PersistentVolume_To_core_PersistentVolume,
			func(o *core.PersistentVolume) field.ErrorList {
				return corevalidation.ValidatePersistentVolume(o, corevalidation.ValidationOptionsForPersistentVolume(o, nil))
			}, func(now, old *core.PersistentVolume) field.ErrorList {
				return corevalidation.ValidatePersistentVolumeUpdate(now, old, corevalidation.ValidationOptionsForPersistentVolume(now, old))
			}}.kind())
	case "LimitRange":
		return namespaced(rules[corev1.LimitRange, core.LimitRange]{corerules.SetObjectDefaults_LimitRange, corerules.Convert_v1_LimitRange_To_core_LimitRange,
			corevalidation.ValidateLimitRange, func(now, _ *core.LimitRange) field.ErrorList { return corevalidation.ValidateLimitRange(now) }}.kind())
	case "ResourceQuota":
		return namespaced(rules[corev1.ResourceQuota, core.ResourceQuota]{corerules.SetObjectDefaults_ResourceQuota, corerules.Convert_v1_ResourceQuota_To_core_ResourceQuota,
			corevalidation.ValidateResourceQuota, corevalidation.ValidateResourceQuotaUpdate}.kind())
	}
	return kind{}, false
}

func ofApps(name string) (kind, bool) {
	switch name {
	case "Deployment":
		return namespaced(rules[appsv1.Deployment, apps.Deployment]{appsrules.SetObjectDefaults_Deployment, appsrules.Convert_v1_Deployment_To_apps_Deployment,
			func(o *apps.Deployment) field.ErrorList {
				return appsvalidation.ValidateDeployment(o, podoptions.GetValidationOptionsFromPodTemplate(&o.Spec.Template, nil))
			}, func(now, old *apps.Deployment) field.ErrorList {
				return appsvalidation.ValidateDeploymentUpdate(now, old, podoptions.GetValidationOptionsFromPodTemplate(&now.Spec.Template, &old.Spec.Template))
			}}.kind())
	case "StatefulSet":
		return namespaced(rules[appsv1.StatefulSet, apps.StatefulSet]{appsrules.SetObjectDefaults_StatefulSet, appsrules.Convert_v1_StatefulSet_To_apps_StatefulSet,
			func(o *apps.StatefulSet) field.ErrorList {
				return appsvalidation.ValidateStatefulSet(o, podoptions.GetValidationOptionsFromPodTemplate(&o.Spec.Template, nil))
			}, func(now, old *apps.StatefulSet) field.ErrorList {
				return appsvalidation.ValidateStatefulSetUpdate(now, old, podoptions.GetValidationOptionsFromPodTemplate(&now.Spec.Template, &old.Spec.Template))
			}}.kind())
	case "DaemonSet":
		return namespaced(rules[appsv1.DaemonSet, apps.DaemonSet]{appsrules.SetObjectDefaults_DaemonSet, appsrules.Convert_v1_DaemonSet_To_apps_DaemonSet,
			func(o *apps.DaemonSet) field.ErrorList {
				return appsvalidation.ValidateDaemonSet(o, podoptions.GetValidationOptionsFromPodTemplate(&o.Spec.Template, nil))
			}, updateDaemonSet}.kind())
	case "ReplicaSet":
		return namespaced(rules[appsv1.ReplicaSet, apps.ReplicaSet]{appsrules.SetObjectDefaults_ReplicaSet, appsrules.Convert_v1_ReplicaSet_To_apps_ReplicaSet,
			func(o *apps.ReplicaSet) field.ErrorList {
				return appsvalidation.ValidateReplicaSet(o, podoptions.GetValidationOptionsFromPodTemplate(&o.Spec.Template, nil))
			}, func(now, old *apps.ReplicaSet) field.ErrorList {
				return appsvalidation.ValidateReplicaSetUpdate(now, old, podoptions.GetValidationOptionsFromPodTemplate(&now.Spec.Template, &old.Spec.Template))
			}}.kind())
	}
	return kind{}, false
}

func ofBatch(name string) (kind, bool) {
	switch name {
	case "Job":
		return namespaced(rules[batchv1.Job, batch.Job]{batchrules.SetObjectDefaults_Job, batchrules.Convert_v1_Job_To_batch_Job, createJob, updateJob}.kind())
	case "CronJob":
		return namespaced(rules[batchv1.CronJob, batch.CronJob]{batchrules.SetObjectDefaults_CronJob, batchrules.Convert_v1_CronJob_To_batch_CronJob,
			func(o *batch.CronJob) field.ErrorList {
				return batchvalidation.ValidateCronJobCreate(o, podoptions.GetValidationOptionsFromPodTemplate(&o.Spec.JobTemplate.Spec.Template, nil))
			}, func(now, old *batch.CronJob) field.ErrorList {
				return batchvalidation.ValidateCronJobUpdate(now, old,
					podoptions.GetValidationOptionsFromPodTemplate(&now.Spec.JobTemplate.Spec.Template, &old.Spec.JobTemplate.Spec.Template))
			}}.kind())
	}
	return kind{}, false
}

func ofNetworking(name string) (kind, bool) {
	switch name {
	case "Ingress":
		return namespaced(rules[networkingv1.Ingress, networking.Ingress]{nil, networkingrules.Convert_v1_Ingress_To_networking_Ingress,
			networkingvalidation.ValidateIngressCreate, networkingvalidation.ValidateIngressUpdate}.kind())
	case "IngressClass":
		return clustered(rules[networkingv1.IngressClass, networking.IngressClass]{networkingrules.SetObjectDefaults_IngressClass, networkingrules.Convert_v1_IngressClass_To_networking_IngressClass,
			networkingvalidation.ValidateIngressClass, networkingvalidation.ValidateIngressClassUpdate}.kind())
	case "NetworkPolicy":
		return namespaced(rules[networkingv1.NetworkPolicy, networking.NetworkPolicy]{networkingrules.SetObjectDefaults_NetworkPolicy, networkingrules.Convert_v1_NetworkPolicy_To_networking_NetworkPolicy,
			func(o *networking.NetworkPolicy) field.ErrorList {
				return networkingvalidation.ValidateNetworkPolicy(o, networkingvalidation.ValidationOptionsForNetworking(o, nil))
			}, func(now, old *networking.NetworkPolicy) field.ErrorList {
				return networkingvalidation.ValidateNetworkPolicyUpdate(now, old, networkingvalidation.ValidationOptionsForNetworking(now, old))
			}}.kind())
	}
	return kind{}, false
}

func ofOthers(gvk schema.GroupVersionKind) (kind, bool) {
	switch gvk.GroupVersion().String() + " " + gvk.Kind {
	case "policy/v1 PodDisruptionBudget":
		create := func(o *policy.PodDisruptionBudget) field.ErrorList {
			return policyvalidation.ValidatePodDisruptionBudget(o, policyvalidation.PodDisruptionBudgetValidationOptions{})
		}
		return namespaced(rules[policyv1.PodDisruptionBudget, policy.PodDisruptionBudget]{nil, policyrules.Convert_v1_PodDisruptionBudget_To_policy_PodDisruptionBudget,
			create, func(now, _ *policy.PodDisruptionBudget) field.ErrorList { return create(now) }}.kind())
	}
	return kind{}, false
}
