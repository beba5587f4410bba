package health_test

import (
	"fmt"
	"testing"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/health"
)

// Each built-in kind, rule by rule: gitops-engine 3.6 pkg/health (health_*.go) for status and message, and for CronJobs the
// script that Argo CD ships (resource_customizations/batch/CronJob/health.lua).
func TestKinds(t *testing.T) {
	const (
		never   = "spec: {restartPolicy: Never}"
		ignored = "metadata: {name: p, annotations: {argocd.argoproj.io/ignore-restart-policy: 'true'}}"
		ready   = "conditions: [{type: Ready, status: 'True'}]"
		backOff = "containerStatuses: [{name: a, state: {waiting: {reason: ImagePullBackOff, message: no image}}}]"
		crashed = "containerStatuses: [{name: a, lastState: {terminated: {exitCode: 1}}}]"
	)
	healthy, progressing, suspended, degraded, unknown := health.Healthy, health.Progressing, health.Suspended, health.Degraded, health.Unknown
	for _, c := range []struct{ what, manifest, status, message string }{
		// health_pod.go
		{"pod never, ready", "{apiVersion: v1, kind: Pod, " + never + ", status: {phase: Running, " + ready + "}}", progressing, ""},
		{"pod on failure, ready", "{apiVersion: v1, kind: Pod, spec: {restartPolicy: OnFailure}, status: {phase: Running, message: m, " + ready + "}}", progressing, "m"},
		{"pod ignoring the policy, ready", "{apiVersion: v1, kind: Pod, " + ignored + ", " + never + ", status: {phase: Running, " + ready + "}}", healthy, ""},
		{"pod ignoring the policy, not ready", "{apiVersion: v1, kind: Pod, " + ignored + ", " + never + ", status: {phase: Running}}", progressing, ""},
		{"pod ignoring the policy, ended once", "{apiVersion: v1, kind: Pod, " + ignored + ", " + never + ", status: {phase: Running, " + crashed + "}}", degraded, ""},
		{"pod ignoring the policy, stuck", "{apiVersion: v1, kind: Pod, " + ignored + ", " + never + ", status: {phase: Pending, " + backOff + "}}", degraded, "no image"},
		{"pod never, stuck", "{apiVersion: v1, kind: Pod, " + never + ", status: {phase: Pending, " + backOff + "}}", progressing, ""},
		{"pod, not exactly true", "{apiVersion: v1, kind: Pod, metadata: {annotations: {argocd.argoproj.io/ignore-restart-policy: 'yes'}}, " + never + ", status: {phase: Running, " + ready + "}}", progressing, ""},
		{"hook ignoring the policy", "{apiVersion: v1, kind: Pod, metadata: {annotations: {argocd.argoproj.io/hook: PreSync, argocd.argoproj.io/ignore-restart-policy: 'true'}}, " + never + ", status: {phase: Running, " + ready + "}}", progressing, ""},
		{"hook ignoring the policy, stuck", "{apiVersion: v1, kind: Pod, metadata: {annotations: {argocd.argoproj.io/hook: Sync, argocd.argoproj.io/ignore-restart-policy: 'true'}}, " + never + ", status: {phase: Pending, " + backOff + "}}", progressing, ""},
		{"hook of Helm ignoring the policy", "{apiVersion: v1, kind: Pod, metadata: {annotations: {helm.sh/hook: pre-install, argocd.argoproj.io/ignore-restart-policy: 'true'}}, " + never + ", status: {phase: Running, " + ready + "}}", progressing, ""},
		{"pod of hook Skip is no hook", "{apiVersion: v1, kind: Pod, metadata: {annotations: {argocd.argoproj.io/hook: Skip, argocd.argoproj.io/ignore-restart-policy: 'true'}}, " + never + ", status: {phase: Running, " + ready + "}}", healthy, ""},
		{"pod failed with a message", "{apiVersion: v1, kind: Pod, status: {phase: Failed, message: evicted}}", degraded, "evicted"},
		{"pod out of memory", "{apiVersion: v1, kind: Pod, status: {phase: Failed, containerStatuses: [{name: a, state: {terminated: {exitCode: 137, reason: OOMKilled}}}]}}", degraded, "OOMKilled"},
		{"pod failed by its code", "{apiVersion: v1, kind: Pod, status: {phase: Failed, containerStatuses: [{name: a, state: {terminated: {exitCode: 3}}}]}}", degraded, `container "a" failed with exit code 3`},
		{"pod failed in an init container", "{apiVersion: v1, kind: Pod, status: {phase: Failed, initContainerStatuses: [{name: i, state: {terminated: {exitCode: 1, message: why}}}], containerStatuses: [{name: a, state: {terminated: {exitCode: 3}}}]}}", degraded, "why"},
		{"pod without a phase", "{apiVersion: v1, kind: Pod}", unknown, ""},
		// health_deployment.go
		{"deployment paused", "{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 2}, spec: {paused: true}}", suspended, "Deployment is paused"},
		{"deployment too late", "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {replicas: 1}, status: {conditions: [{type: Progressing, status: 'False', reason: ProgressDeadlineExceeded}]}}", degraded, `Deployment "d" exceeded its progress deadline`},
		{"deployment updates", "{apiVersion: apps/v1, kind: Deployment, spec: {replicas: 3}, status: {updatedReplicas: 1}}", progressing, "Waiting for rollout to finish: 1 out of 3 new replicas have been updated..."},
		{"deployment of another version", "{apiVersion: apps/v1beta2, kind: Deployment}", unknown, "unsupported Deployment GVK: apps/v1beta2, Kind=Deployment"},
		// health_statefulset.go
		{"set behind", "{apiVersion: apps/v1, kind: StatefulSet, metadata: {generation: 3}, spec: {replicas: 1}, status: {observedGeneration: 2}}", progressing, "Waiting for statefulset spec update to be observed..."},
		{"set not ready", "{apiVersion: apps/v1, kind: StatefulSet, spec: {replicas: 3}, status: {observedGeneration: 1, readyReplicas: 1}}", progressing, "Waiting for 2 pods to be ready..."},
		{"set partitioned, under way", "{apiVersion: apps/v1, kind: StatefulSet, spec: {replicas: 3, updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 1}}}, status: {observedGeneration: 1, readyReplicas: 3, updatedReplicas: 1}}", progressing, "Waiting for partitioned roll out to finish: 1 out of 2 new pods have been updated..."},
		{"set partitioned, done", "{apiVersion: apps/v1, kind: StatefulSet, spec: {replicas: 3, updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 1}}}, status: {observedGeneration: 1, readyReplicas: 3, updatedReplicas: 2, updateRevision: a, currentRevision: b}}", healthy, "partitioned roll out complete: 2 new pods have been updated..."},
		{"set, rolling without a partition", "{apiVersion: apps/v1, kind: StatefulSet, spec: {replicas: 1, updateStrategy: {type: RollingUpdate, rollingUpdate: {}}}, status: {observedGeneration: 1, readyReplicas: 1, updateRevision: a, currentRevision: b}}", healthy, "partitioned roll out complete: 0 new pods have been updated..."},
		{"set on delete", "{apiVersion: apps/v1, kind: StatefulSet, spec: {replicas: 1, updateStrategy: {type: OnDelete}}, status: {observedGeneration: 1, readyReplicas: 1}}", healthy, "statefulset has 1 ready pods"},
		{"set between revisions", "{apiVersion: apps/v1, kind: StatefulSet, spec: {replicas: 2}, status: {observedGeneration: 1, readyReplicas: 2, updatedReplicas: 1, updateRevision: a, currentRevision: b}}", progressing, "waiting for statefulset rolling update to complete 1 pods at revision a..."},
		{"set done", "{apiVersion: apps/v1, kind: StatefulSet, spec: {replicas: 2}, status: {observedGeneration: 1, readyReplicas: 2, currentReplicas: 2, updateRevision: a, currentRevision: a}}", healthy, "statefulset rolling update complete 2 pods at revision a..."},
		// health_daemonset.go
		{"daemons behind", "{apiVersion: apps/v1, kind: DaemonSet, metadata: {generation: 2}, status: {observedGeneration: 1}}", progressing, "Waiting for rollout to finish: observed daemon set generation less than desired generation"},
		{"daemons on delete", "{apiVersion: apps/v1, kind: DaemonSet, spec: {updateStrategy: {type: OnDelete}}, status: {updatedNumberScheduled: 1, desiredNumberScheduled: 2}}", healthy, "daemon set 1 out of 2 new pods have been updated"},
		{"daemons update", "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: d}, status: {updatedNumberScheduled: 1, desiredNumberScheduled: 2}}", progressing, `Waiting for daemon set "d" rollout to finish: 1 out of 2 new pods have been updated...`},
		{"daemons unavailable", "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: d}, status: {updatedNumberScheduled: 2, desiredNumberScheduled: 2, numberAvailable: 1}}", progressing, `Waiting for daemon set "d" rollout to finish: 1 of 2 updated pods are available...`},
		{"daemons done", "{apiVersion: apps/v1, kind: DaemonSet, status: {updatedNumberScheduled: 2, desiredNumberScheduled: 2, numberAvailable: 2}}", healthy, ""},
		// health_replicaset.go
		{"replicas wait", "{apiVersion: apps/v1, kind: ReplicaSet, spec: {replicas: 2}, status: {availableReplicas: 1}}", progressing, "Waiting for rollout to finish: 1 out of 2 new replicas are available..."},
		{"replicas failed once", "{apiVersion: apps/v1, kind: ReplicaSet, spec: {replicas: 1}, status: {availableReplicas: 1, conditions: [{type: ReplicaFailure, status: 'False'}]}}", healthy, ""},
		// health_job.go
		{"job runs", "{apiVersion: batch/v1, kind: Job}", progressing, ""},
		{"job suspended", "{apiVersion: batch/v1, kind: Job, status: {conditions: [{type: Suspended, status: 'True', message: Job suspended}]}}", suspended, "Job suspended"},
		{"job suspended and failed", "{apiVersion: batch/v1, kind: Job, status: {conditions: [{type: Suspended, status: 'True', message: s}, {type: Failed, status: 'True', message: f}]}}", degraded, "f"},
		{"job complete and failed", "{apiVersion: batch/v1, kind: Job, status: {conditions: [{type: Complete, status: 'True', message: c}, {type: Failed, status: 'True', message: f}]}}", degraded, "f"},
		{"job resumed and complete", "{apiVersion: batch/v1, kind: Job, status: {conditions: [{type: Suspended, status: 'False', message: Job resumed}, {type: Complete, status: 'True', message: c}]}}", healthy, "c"},
		// health_hpa.go: a condition that is bad counts before one that is good, whatever their order.
		{"autoscaler v1 without conditions", "{apiVersion: autoscaling/v1, kind: HorizontalPodAutoscaler}", progressing, "Waiting to Autoscale"},
		{"autoscaler v1 with none", "{apiVersion: autoscaling/v1, kind: HorizontalPodAutoscaler, metadata: {annotations: {autoscaling.alpha.kubernetes.io/conditions: '[]'}}}", progressing, "Waiting to Autoscale"},
		{"autoscaler v2 bad", "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, status: {conditions: [{type: AbleToScale, status: 'True', message: a}, {type: ScalingActive, status: 'False', reason: FailedGetPodsMetric, message: b}]}}", degraded, "b"},
		{"autoscaler v2 cannot compute", "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, status: {conditions: [{type: ScalingActive, status: 'False', reason: FailedComputeMetricsReplicas, message: b}]}}", degraded, "b"},
		{"autoscaler v2, a reason that is not listed", "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, status: {conditions: [{type: AbleToScale, status: 'True', message: a}, {type: ScalingActive, status: 'False', reason: FailedGetContainerResourceMetric, message: b}]}}", healthy, "a"},
		{"autoscaler v2 limited", "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, status: {conditions: [{type: ScalingLimited, status: 'True', message: l}]}}", healthy, "l"},
		{"autoscaler of a version that is gone", "{apiVersion: autoscaling/v2beta1, kind: HorizontalPodAutoscaler}", unknown, "unsupported HorizontalPodAutoscaler GVK: autoscaling/v2beta1, Kind=HorizontalPodAutoscaler"},
		// health_pvc.go, health_service.go, health_ingress.go, health_apiservice.go, health_argo.go
		{"claim without a phase", "{apiVersion: v1, kind: PersistentVolumeClaim}", unknown, ""},
		{"claim waits", "{apiVersion: v1, kind: PersistentVolumeClaim, status: {phase: Pending}}", progressing, ""},
		{"load balancer has an address", "{apiVersion: v1, kind: Service, spec: {type: LoadBalancer}, status: {loadBalancer: {ingress: [{ip: 10.0.0.1}]}}}", healthy, ""},
		{"service of a cluster", "{apiVersion: v1, kind: Service}", healthy, ""},
		{"ingress of old", "{apiVersion: extensions/v1beta1, kind: Ingress, status: {loadBalancer: {ingress: [{}]}}}", healthy, ""},
		{"api service is available", "{apiVersion: apiregistration.k8s.io/v1, kind: APIService, status: {conditions: [{type: Available, status: 'True', reason: Passed, message: all is well}]}}", healthy, "Passed: all is well"},
		{"workflow failed", "{apiVersion: argoproj.io/v1alpha1, kind: Workflow, status: {phase: Error, message: m}}", degraded, "m"},
		{"workflow of an unknown phase", "{apiVersion: argoproj.io/v1alpha1, kind: Workflow, status: {phase: Odd}}", unknown, ""},
		// batch/CronJob/health.lua
		{"cron job suspended", "{apiVersion: batch/v1, kind: CronJob, spec: {suspend: true}, status: {lastScheduleTime: '2026-01-02T00:00:00Z', lastSuccessfulTime: '2026-01-01T00:00:00Z'}}", healthy, "CronJob is Suspended"},
		{"cron job new", "{apiVersion: batch/v1, kind: CronJob, spec: {}}", progressing, "Waiting for CronJob"},
		{"cron job never scheduled", "{apiVersion: batch/v1, kind: CronJob, spec: {}, status: {}}", healthy, "CronJob has not been scheduled yet"},
		{"cron job never completed", "{apiVersion: batch/v1, kind: CronJob, spec: {}, status: {active: [{name: j}], lastScheduleTime: '2026-01-02T00:00:00Z'}}", healthy, "The CronJob never completed successfully. It may not be healthy"},
		{"cron job runs", "{apiVersion: batch/v1, kind: CronJob, spec: {}, status: {active: [{name: j}], lastScheduleTime: '2026-01-02T00:00:00Z', lastSuccessfulTime: '2026-01-01T00:00:00Z'}}", healthy, "The job is running. Its last execution may not have been successful"},
		{"cron job failed", "{apiVersion: batch/v1, kind: CronJob, spec: {}, status: {lastScheduleTime: '2026-01-02T00:00:00Z', lastSuccessfulTime: '2026-01-01T00:00:00Z'}}", degraded, "CronJob has not completed its last execution successfully"},
		{"cron job done", "{apiVersion: batch/v1, kind: CronJob, spec: {}, status: {lastScheduleTime: '2026-01-02T00:00:00Z', lastSuccessfulTime: '2026-01-02T00:00:09Z'}}", healthy, "CronJob has completed its last execution successfully"},
		// health.go, pendingDeletionHealth: a rule that fails counts before the deletion; a hook's own finalizer does not.
		{"being deleted", "{apiVersion: v1, kind: ConfigMap, metadata: {deletionTimestamp: '2026-01-01T00:00:00Z'}}", progressing, "Pending deletion"},
		{"being deleted, held", "{apiVersion: apps/v1, kind: Deployment, metadata: {deletionTimestamp: '2026-01-01T00:00:00Z', finalizers: [a/b, c/d]}}", progressing, "Pending deletion; blocked by finalizers: a/b, c/d"},
		{"being deleted, unreadable", "{apiVersion: v1, kind: Service, metadata: {deletionTimestamp: '2026-01-01T00:00:00Z'}, spec: 7}", unknown, "*"},
		{"hook being deleted", "{apiVersion: batch/v1, kind: Job, metadata: {deletionTimestamp: '2026-01-01T00:00:00Z', finalizers: [argocd.argoproj.io/hook-finalizer]}, status: {conditions: [{type: Complete, status: 'True'}]}}", healthy, ""},
	} {
		got, known := health.Of(object(t, c.manifest))
		want := deploy.Health{Status: c.status, Message: c.message}
		if c.message == "*" {
			want.Message = got.Message
		}
		if !known || got != want {
			t.Errorf("%s: %+v (%t), want %+v", c.what, got, known, want)
		}
	}
	for _, kind := range []string{"ConfigMap", "Secret", "ServiceAccount", "Namespace", "Node"} {
		if got, known := health.Of(object(t, "{apiVersion: v1, kind: "+kind+", status: {phase: Failed}}")); known {
			t.Errorf("a %s has no health, got %+v", kind, got)
		}
	}
}

// An object that says so does not count in its application's health; one that is no hook by "Skip" alone counts, and so does what
// only says that it may be there besides (controller/health.go and ignore.Ignore: such a one does not).
func TestWhatDoesNotCount(t *testing.T) {
	bad := "{apiVersion: batch/v1, kind: Job, metadata: {name: j, annotations: {%s}}, status: {conditions: [{type: Failed, status: 'True', message: f}]}}"
	for annotation, want := range map[string]string{
		"": health.Degraded,
		"argocd.argoproj.io/ignore-healthcheck: 'true'":                               health.Healthy,
		"argocd.argoproj.io/ignore-healthcheck: 'false'":                              health.Degraded,
		"argocd.argoproj.io/ignore-healthcheck: 'TRUE'":                               health.Degraded,
		"argocd.argoproj.io/compare-options: IgnoreExtraneous":                        health.Healthy,
		"argocd.argoproj.io/compare-options: 'ServerSideDiff=true, IgnoreExtraneous'": health.Healthy,
		"argocd.argoproj.io/compare-options: ServerSideDiff=true":                     health.Degraded,
	} {
		live := object(t, fmt.Sprintf(bad, annotation))
		if got := health.Aggregate([]health.Judged{{Key: deploy.KeyOf(live), Live: live}}); got.Status != want {
			t.Errorf("%s: %+v, want %s", annotation, got, want)
		}
	}
}
