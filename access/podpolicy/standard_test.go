package podpolicy

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"
)

// pod reads a pod.
func pod(t interface{ Fatal(...any) }, text string) *corev1.Pod {
	var p corev1.Pod
	if err := yaml.UnmarshalStrict([]byte(text), &p); err != nil {
		t.Fatal(text, err)
	}
	return &p
}

// safe is what restricted asks for, for a container "c".
const safe = "{runAsNonRoot: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}"

// The controls of the Pod Security Standards, each with values that it allows and that it forbids, as Kubernetes documents them
// (https://kubernetes.io/docs/concepts/security/pod-security-standards/, 1.36), and the field that is named.
func TestStandards(t *testing.T) {
	// in gives pods whose container is of each kind: "C" stands for the list of containers.
	container := func(c string) string { return "{spec: {containers: [" + c + "]}}" }
	secured := func(s string) string { return container("{name: c, securityContext: " + s + "}") }
	spec := func(s string) string { return "{spec: {" + s + "}}" }
	const c0 = "spec.containers[0]."
	for _, c := range []struct {
		control   string
		level     Level
		allowed   []string
		forbidden map[string][]string // the pod, and the paths that are named
	}{
		{control: "HostProcess", level: Baseline,
			allowed: []string{secured("{windowsOptions: {hostProcess: false}}"), spec("securityContext: {windowsOptions: {}}")},
			forbidden: map[string][]string{
				secured("{windowsOptions: {hostProcess: true}}"):               {c0 + "securityContext.windowsOptions.hostProcess"},
				spec("securityContext: {windowsOptions: {hostProcess: true}}"): {"spec.securityContext.windowsOptions.hostProcess"},
			}},
		{control: "Host Namespaces", level: Baseline,
			allowed: []string{spec("hostNetwork: false, hostPID: false, hostIPC: false"), spec("")},
			forbidden: map[string][]string{
				spec("hostNetwork: true"):                      {"spec.hostNetwork"},
				spec("hostPID: true"):                          {"spec.hostPID"},
				spec("hostIPC: true"):                          {"spec.hostIPC"},
				spec("hostPID: true, hostIPC: true"):           {"spec.hostPID", "spec.hostIPC"},
				spec("hostNetwork: true, os: {name: windows}"): {"spec.hostNetwork"},
			}},
		// Not one of Kubernetes': there pods have the users of their node unless they ask for others.
		{control: "Host Users", level: Baseline,
			allowed:   []string{spec("hostUsers: false"), spec("")},
			forbidden: map[string][]string{spec("hostUsers: true"): {"spec.hostUsers"}}},
		{control: "Privileged Containers", level: Baseline,
			allowed: []string{secured("{privileged: false}"), secured("{}")},
			forbidden: map[string][]string{
				secured("{privileged: true}"): {c0 + "securityContext.privileged"},
				spec("initContainers: [{name: i, securityContext: {privileged: true}}], containers: [{name: c}]"):      {"spec.initContainers[0].securityContext.privileged"},
				spec("ephemeralContainers: [{name: e, securityContext: {privileged: true}}], containers: [{name: c}]"): {"spec.ephemeralContainers[0].securityContext.privileged"},
				spec("containers: [{name: c}, {name: sidecar, securityContext: {privileged: true}}]"):                  {"spec.containers[1].securityContext.privileged"},
			}},
		{control: "Capabilities", level: Baseline,
			allowed: []string{secured("{capabilities: {add: [AUDIT_WRITE, CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, MKNOD, NET_BIND_SERVICE, SETFCAP, SETGID, SETPCAP, SETUID, SYS_CHROOT]}}"),
				secured("{capabilities: {drop: [ALL]}}")},
			forbidden: map[string][]string{
				secured("{capabilities: {add: [NET_RAW]}}"):       {c0 + "securityContext.capabilities.add"},
				secured("{capabilities: {add: [SYS_ADMIN]}}"):     {c0 + "securityContext.capabilities.add"},
				secured("{capabilities: {add: [CAP_SYS_ADMIN]}}"): {c0 + "securityContext.capabilities.add"},
				secured("{capabilities: {add: [sys_admin]}}"):     {c0 + "securityContext.capabilities.add"},
				secured("{capabilities: {add: [ALL]}}"):           {c0 + "securityContext.capabilities.add"},
			}},
		{control: "HostPath Volumes", level: Baseline,
			allowed: []string{spec("volumes: [{name: v, emptyDir: {}}]")},
			forbidden: map[string][]string{
				spec("volumes: [{name: v, emptyDir: {}}, {name: w, hostPath: {path: /}}]"): {"spec.volumes[1].hostPath"},
			}},
		{control: "Host Ports", level: Baseline,
			allowed: []string{container("{name: c, ports: [{containerPort: 80}, {containerPort: 81, hostPort: 0}]}")},
			forbidden: map[string][]string{
				container("{name: c, ports: [{containerPort: 80}, {containerPort: 81, hostPort: 81}]}"): {c0 + "ports[1].hostPort"},
			}},
		{control: "Host Probes / Lifecycle Hooks", level: Baseline,
			allowed: []string{container(`{name: c, livenessProbe: {httpGet: {port: 80}}, readinessProbe: {tcpSocket: {port: 80, host: ""}}}`)},
			forbidden: map[string][]string{
				container("{name: c, livenessProbe: {httpGet: {port: 80, host: 169.254.169.254}}}"): {c0 + "livenessProbe.httpGet.host"},
				container("{name: c, readinessProbe: {tcpSocket: {port: 80, host: 127.0.0.1}}}"):    {c0 + "readinessProbe.tcpSocket.host"},
				container("{name: c, startupProbe: {httpGet: {port: 80, host: h}}}"):                {c0 + "startupProbe.httpGet.host"},
				container("{name: c, lifecycle: {preStop: {httpGet: {port: 80, host: h}}}}"):        {c0 + "lifecycle.preStop.httpGet.host"},
				container("{name: c, lifecycle: {postStart: {tcpSocket: {port: 80, host: h}}}}"):    {c0 + "lifecycle.postStart.tcpSocket.host"},
			}},
		{control: "AppArmor", level: Baseline,
			allowed: []string{secured("{appArmorProfile: {type: RuntimeDefault}}"), secured("{appArmorProfile: {type: Localhost, localhostProfile: p}}"),
				`{metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/c: runtime/default}}, spec: {containers: [{name: c}]}}`,
				`{metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/c: localhost/p}}, spec: {containers: [{name: c}]}}`},
			forbidden: map[string][]string{
				secured("{appArmorProfile: {type: Unconfined}}"):                                                                             {c0 + "securityContext.appArmorProfile"},
				spec("securityContext: {appArmorProfile: {type: Unconfined}}"):                                                               {"spec.securityContext.appArmorProfile"},
				`{metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/c: unconfined}}, spec: {containers: [{name: c}]}}`: {"metadata.annotations"},
			}},
		{control: "SELinux", level: Baseline,
			allowed: []string{secured("{seLinuxOptions: {type: container_t, level: s0}}"), secured("{seLinuxOptions: {type: container_init_t}}"),
				secured("{seLinuxOptions: {type: container_kvm_t}}"), secured("{seLinuxOptions: {type: container_engine_t}}")},
			forbidden: map[string][]string{
				secured("{seLinuxOptions: {type: spc_t}}"):               {c0 + "securityContext.seLinuxOptions"},
				secured("{seLinuxOptions: {user: u}}"):                   {c0 + "securityContext.seLinuxOptions"},
				secured("{seLinuxOptions: {role: r}}"):                   {c0 + "securityContext.seLinuxOptions"},
				spec("securityContext: {seLinuxOptions: {type: spc_t}}"): {"spec.securityContext.seLinuxOptions"},
			}},
		{control: "/proc Mount Type", level: Baseline,
			allowed: []string{secured("{procMount: Default}")},
			forbidden: map[string][]string{
				secured("{procMount: Unmasked}"): {c0 + "securityContext.procMount"},
				// Not every machine can give a user namespace that is asked for, so it lets nobody off.
				spec("hostUsers: false, containers: [{name: c, securityContext: {procMount: Unmasked}}]"): {c0 + "securityContext.procMount"},
			}},
		{control: "Seccomp", level: Baseline,
			allowed: []string{secured("{seccompProfile: {type: RuntimeDefault}}"), secured("{seccompProfile: {type: Localhost, localhostProfile: p}}"), secured("{}")},
			forbidden: map[string][]string{
				secured("{seccompProfile: {type: Unconfined}}"):               {c0 + "securityContext.seccompProfile"},
				spec("securityContext: {seccompProfile: {type: Unconfined}}"): {"spec.securityContext.seccompProfile"},
			}},
		{control: "Sysctls", level: Baseline,
			allowed: []string{spec("securityContext: {sysctls: [{name: kernel.shm_rmid_forced, value: '0'}, {name: net.ipv4.ip_local_port_range, value: '1024 2000'}, " +
				"{name: net.ipv4.tcp_syncookies, value: '0'}, {name: net.ipv4.ping_group_range, value: '1 0'}, {name: net.ipv4.ip_unprivileged_port_start, value: '1024'}, " +
				"{name: net.ipv4.ip_local_reserved_ports, value: '1'}, {name: net.ipv4.tcp_keepalive_time, value: '1'}, {name: net.ipv4.tcp_fin_timeout, value: '1'}, " +
				"{name: net.ipv4.tcp_keepalive_intvl, value: '1'}, {name: net.ipv4.tcp_keepalive_probes, value: '1'}, {name: net.ipv4.tcp_rmem, value: '1'}, {name: net.ipv4.tcp_wmem, value: '1'}]}")},
			forbidden: map[string][]string{
				spec("securityContext: {sysctls: [{name: kernel.core_pattern, value: '|/x'}]}"): {"spec.securityContext.sysctls"},
			}},

		{control: "Volume Types", level: Restricted,
			allowed: []string{spec("volumes: [{name: a, configMap: {}}, {name: b, csi: {driver: d}}, {name: c, downwardAPI: {}}, {name: d, emptyDir: {}}, " +
				"{name: e, ephemeral: {}}, {name: f, persistentVolumeClaim: {claimName: c}}, {name: g, projected: {sources: []}}, {name: h, secret: {}}]")},
			forbidden: map[string][]string{
				spec("volumes: [{name: v, nfs: {server: s, path: /}}]"): {"spec.volumes[0]"},
				spec("volumes: [{name: v, hostPath: {path: /}}]"):       {"spec.volumes[0]"},
			}},
		{control: "Privilege Escalation", level: Restricted,
			allowed: []string{secured(safe)},
			forbidden: map[string][]string{
				secured(strings.Replace(safe, "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", 1)): {c0 + "securityContext.allowPrivilegeEscalation"},
				secured(strings.Replace(safe, "allowPrivilegeEscalation: false, ", "", 1)):                             {c0 + "securityContext.allowPrivilegeEscalation"},
				// A pod says of itself that it is of Windows, where there is no such thing.
				spec("os: {name: windows}, containers: [{name: c, securityContext: " + strings.Replace(safe, "allowPrivilegeEscalation: false, ", "", 1) + "}]"): {c0 + "securityContext.allowPrivilegeEscalation"},
			}},
		{control: "Running as Non-root", level: Restricted,
			allowed: []string{secured(safe), spec("securityContext: {runAsNonRoot: true}, containers: [{name: c, securityContext: " + strings.Replace(safe, "runAsNonRoot: true, ", "", 1) + "}]")},
			forbidden: map[string][]string{
				secured(strings.Replace(safe, "runAsNonRoot: true", "runAsNonRoot: false", 1)):                                                                         {c0 + "securityContext.runAsNonRoot"},
				secured(strings.Replace(safe, "runAsNonRoot: true, ", "", 1)):                                                                                          {c0 + "securityContext.runAsNonRoot"},
				spec("hostUsers: false, containers: [{name: c, securityContext: " + strings.Replace(safe, "runAsNonRoot: true, ", "", 1) + "}]"):                       {c0 + "securityContext.runAsNonRoot"},
				spec("securityContext: {runAsNonRoot: false}, containers: [{name: c, securityContext: " + strings.Replace(safe, "runAsNonRoot: true, ", "", 1) + "}]"): {"spec.securityContext.runAsNonRoot"},
			}},
		{control: "Running as Non-root user", level: Restricted,
			allowed: []string{secured(strings.Replace(safe, "{", "{runAsUser: 1000, ", 1))},
			forbidden: map[string][]string{
				secured(strings.Replace(safe, "{", "{runAsUser: 0, ", 1)):                                       {c0 + "securityContext.runAsUser"},
				spec("securityContext: {runAsUser: 0}, containers: [{name: c, securityContext: " + safe + "}]"): {"spec.securityContext.runAsUser"},
			}},
		{control: "Seccomp", level: Restricted,
			allowed: []string{secured(safe), secured(strings.Replace(safe, "type: RuntimeDefault", "type: Localhost, localhostProfile: p", 1))},
			forbidden: map[string][]string{
				secured(strings.Replace(safe, "RuntimeDefault", "Unconfined", 1)):                 {c0 + "securityContext.seccompProfile"},
				secured(strings.Replace(safe, ", seccompProfile: {type: RuntimeDefault}", "", 1)): {c0 + "securityContext.seccompProfile"},
			}},
		{control: "Capabilities", level: Restricted,
			allowed: []string{secured(strings.Replace(safe, "drop: [ALL]", "drop: [ALL], add: [NET_BIND_SERVICE]", 1))},
			forbidden: map[string][]string{
				secured(strings.Replace(safe, "drop: [ALL]", "drop: [ALL], add: [CHOWN]", 1)): {c0 + "securityContext.capabilities"},
				secured(strings.Replace(safe, "drop: [ALL]", "drop: [KILL]", 1)):              {c0 + "securityContext.capabilities"},
				secured(strings.Replace(safe, ", capabilities: {drop: [ALL]}", "", 1)):        {c0 + "securityContext.capabilities"},
			}},
	} {
		t.Run(string(c.level)+"/"+c.control, func(t *testing.T) {
			policy := New(Grant{To: To{Namespaces: []string{"*"}}, Pods: c.level})
			judge := func(text string) (paths []string, all []Problem) {
				all = policy.Judge(Wish{For: Subject{Kind: Own, Role: "admin"}, Pod: pod(t, text)})
				for _, p := range all {
					paths = append(paths, p.Path)
				}
				return paths, all
			}
			for _, text := range c.allowed {
				if _, all := judge(text); len(all) > 0 {
					t.Errorf("%s is allowed, and refused: %v", text, all)
				}
			}
			for text, want := range c.forbidden {
				got, all := judge(text)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s: %s\n%v", text, diff, all)
				}
				for _, p := range all {
					if next := map[Level]string{Baseline: "privileged", Restricted: "baseline"}[c.level]; !strings.Contains(p.Hint, "pods: "+next) && !strings.Contains(p.Hint, "hostNetwork: true") {
						t.Errorf("%s: the grant that would allow it is not named: %s", text, p.Hint)
					}
				}
			}
		})
	}
}

// Everything that the library knows is judged, by its newest rules, and each control has fields to name: a control that a new version
// of the library brings is noticed here.
func TestAllControlsOfTheLibrary(t *testing.T) {
	var ids []string
	for _, c := range checks() {
		ids = append(ids, string(c.id))
		if at := placesOf(c.id); len(at.pod)+len(at.container) == 0 && !at.volume {
			t.Errorf("the control %s names no field", c.id)
		}
	}
	want := []string{"allowPrivilegeEscalation", "appArmorProfile", "capabilities_baseline", "capabilities_restricted", "hostNamespaces", "hostPathVolumes", "hostPorts",
		"hostProbesAndHostLifecycle", "privileged", "procMount", "procMount_restricted", "restrictedVolumes", "runAsNonRoot", "runAsUser", "seLinuxOptions",
		"seccompProfile_baseline", "seccompProfile_restricted", "sysctls", "windowsHostProcess"}
	slices.Sort(want)
	if diff := cmp.Diff(want, ids); diff != "" {
		t.Error(diff)
	}
}

// The verdict is the library's own evaluator's, whatever is put together.
func TestVerdictIsTheLibrarys(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	parts := []string{"hostNetwork: true", "hostPID: true", "volumes: [{name: v, hostPath: {path: /}}]", "volumes: [{name: v, nfs: {server: s, path: /}}]",
		"securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}", "securityContext: {runAsUser: 0}", "securityContext: {sysctls: [{name: kernel.core_pattern, value: x}]}"}
	containers := []string{"{name: NAME}", "{name: NAME, securityContext: " + safe + "}", "{name: NAME, securityContext: {privileged: true}}",
		"{name: NAME, securityContext: {capabilities: {add: [NET_RAW]}}}", "{name: NAME, ports: [{containerPort: 1, hostPort: 1}]}",
		"{name: NAME, securityContext: {capabilities: {add: [CHOWN]}}}", "{name: NAME, securityContext: {seccompProfile: {type: Unconfined}}}"}
	rapid.Check(t, func(t *rapid.T) {
		level := rapid.SampledFrom([]Level{Restricted, Baseline}).Draw(t, "level")
		list := func(name string) string {
			n := 0
			return strings.Join(rapid.SliceOfN(rapid.Map(rapid.SampledFrom(containers), func(c string) string {
				n++
				return strings.Replace(c, "NAME", name+string(rune('a'+n%20)), 1)
			}), 1, 3).Draw(t, name), ", ")
		}
		spec := []string{"containers: [" + list("c") + "]", "initContainers: [" + list("i") + "]"}
		seen := map[string]bool{}
		for _, part := range rapid.SliceOfDistinct(rapid.SampledFrom(parts), rapid.ID[string]).Draw(t, "parts") {
			if key, _, _ := strings.Cut(part, ":"); !seen[key] {
				seen[key] = true
				spec = append(spec, part)
			}
		}
		p := pod(t, "{spec: {"+strings.Join(spec, ", ")+"}}")
		results := evaluator.EvaluatePod(api.LevelVersion{Level: api.Level(level), Version: api.LatestVersion()}, &p.ObjectMeta, &p.Spec)
		want := policy.AggregateCheckResults(results).Allowed
		got := New(Grant{To: To{Namespaces: []string{"*"}}, Pods: level}).Judge(Wish{For: Subject{Kind: Own}, Pod: p})
		if (len(got) == 0) != want {
			t.Fatalf("allowed %t, want %t: %v", len(got) == 0, want, got)
		}
		for _, problem := range got {
			if problem.Path == "spec" {
				t.Fatalf("no field is named: %v", problem)
			}
		}
	})
}
