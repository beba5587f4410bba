package executortest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/secret"
)

type testCase struct {
	name     string
	test     func(*bench)
	outlives bool // the pods are there after their executor
}

func cases() []testCase {
	list := []testCase{
		{name: "attach after restart", test: attach, outlives: true}, {name: "ended while away", test: endedWhileAway, outlives: true},
		{name: "list after restart", test: listedAfterRestart, outlives: true}, {name: "refresh", test: refresh, outlives: true},
	}
	for name, test := range map[string]func(*bench){
		"exit codes": exitCodes, "missing command": missingCommand, "outputs": outputs, "script": script,
		"environment": environment, "deadline": deadline, "stop": stop, "stop a step that ignores SIGTERM": stopStubborn,
		"stop before it runs": stopTwice, "logs": logs, "follow": follow, "private writes": privateWrites,
		"masked": masked, "exec": execute,
		"double start": doubleStart, "hostile names": hostileNames, "volumes": volumes, "sub paths": subPaths,
		"several containers": severalContainers, "container set": containerSet,
		"order of a container set": setOrder, "failures in a container set": setFailures, "retries in a container set": setRetries,
		"end of a container set": setEnds, "outputs of a container set": setOutputs,
		"orphans": orphans, "capabilities": capabilities, "refused": refused, "list": listed, "claims": claims,
		"stop before start": stopBeforeStart, "stop, restart, start": stopBeforeStartAndRestart,
	} {
		list = append(list, testCase{name: name, test: test})
	}
	return list
}

// The wording of failures is Argo's: conformance case functional/TestPodFailure… has "main: Error (exit code 1)".
func exitCodes(b *bench) {
	b.check(b.run(b.pod("exit 0")), executor.Succeeded, 0, "")
	b.check(b.run(b.pod("exit 1")), executor.Failed, 1, "main: Error (exit code 1)")
	b.check(b.run(b.pod("exit 77")), executor.Failed, 77, "main: Error (exit code 77)")
	b.check(b.run(b.pod("kill -9 $$$$")), executor.Failed, 137, "main: Error (exit code 137)")
}

func missingCommand(b *bench) {
	p := b.pod("")
	p.Pod.Spec.Containers[0].Command = []string{"no-such-program"}
	r := b.run(p)
	if r.Phase != executor.Failed || r.Reason != executor.ReasonStart || !strings.Contains(r.Message, "not found in $PATH") {
		b.Errorf("got %s, %s, %q", r.Phase, r.Reason, r.Message)
	}
}

func outputs(b *bench) {
	p := b.pod(`echo result; echo noise >&2; mkdir /out; printf 'a\n\n' > /out/a; head -c 300000 /dev/zero > /out/big; ln -s /etc/hostname /out/link`)
	p.Outputs = executor.Outputs{Result: true, Parameters: []manifest.Parameter{
		fileParameter("a", "/out/a"), fileParameter("gone", "/out/none"),
	}}
	r := b.run(p)
	b.check(r, executor.Succeeded, 0, "")
	if r.Result == nil || *r.Result != "result" {
		b.Errorf("result: %v", r.Result)
	}
	if diff := cmp.Diff(map[string]string{"a": "a\n"}, r.Parameters); diff != "" {
		b.Errorf("parameters: %s", diff)
	}
	if diff := cmp.Diff([]string{"gone"}, r.Missing); diff != "" {
		b.Errorf("missing: %s", diff)
	}
	p = b.pod("head -c 300000 /dev/zero | tr '\\0' x > /big")
	p.Outputs.Parameters = []manifest.Parameter{fileParameter("big", "/big")}
	if r := b.run(p); r.Phase != executor.Succeeded || r.Parameters["big"] != strings.Repeat("x", 300_000) {
		b.Errorf("a large parameter: %s %s, %d bytes", r.Phase, r.Message, len(r.Parameters["big"]))
	}
	p = b.pod("head -c 5000000 /dev/zero | tr '\\0' x > /one; cp /one /two")
	p.Outputs.Parameters = []manifest.Parameter{fileParameter("one", "/one"), fileParameter("two", "/two")}
	if r := b.run(p); r.Phase != executor.Error || r.Reason != executor.ReasonOutput {
		b.Errorf("parameters that are too large together: %s %s %s", r.Phase, r.Reason, r.Message)
	}
}

func script(b *bench) {
	p := b.pod("")
	p.Pod.Spec.Containers[0].Command = []string{"sh"}
	p.Script = &executor.Script{Source: "echo from the script\n"}
	p.Outputs.Result = true
	if r := b.run(p); r.Result == nil || *r.Result != "from the script" {
		b.Errorf("got %+v", r)
	}
}

func environment(b *bench) {
	b.Setenv("TIPHYS_SERVER_ONLY", "must not be seen")
	p := b.pod(`echo "$GREETING|$FROM_SECRET|$TIPHYS_RUN|$TIPHYS_SERVER_ONLY|$NAME|$1"`)
	c := &p.Pod.Spec.Containers[0]
	c.Args = []string{"sh", "$(GREETING) $$(GREETING) $(NONE)"}
	c.Env = []corev1.EnvVar{
		{Name: "WHO", Value: "world"}, {Name: "GREETING", Value: "hello $(WHO)"},
		{Name: "FROM_SECRET", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: "s"}, Key: "k",
		}}},
		{Name: "NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
	}
	p.Env = map[string]string{"TIPHYS_RUN": "run-1"}
	p.Resolve = map[string]map[string]secret.Value{"Secret/default/s": {"k": secret.New("v")}}
	p.Outputs.Result = true
	want := "hello world|v|run-1||pod|hello world $(GREETING) $(NONE)"
	if r := b.run(p); r.Result == nil || *r.Result != want {
		b.Errorf("got %+v, want %q", r.Result, want)
	}
}

func deadline(b *bench) {
	p := b.pod("sleep 100")
	p.Deadline = time.Now().Add(300 * time.Millisecond)
	if r := b.run(p); r.Phase != executor.Failed || r.Reason != executor.ReasonDeadline {
		b.Errorf("got %s %s %q", r.Phase, r.Reason, r.Message)
	}
}

func stop(b *bench) {
	p := b.pod(`trap 'echo stopping; exit 3' TERM; echo ready; while :; do sleep 0.05; done`)
	b.start(p)
	b.running(p.ID)
	b.awaitLog(p.ID, "ready\n")
	if err := b.ex.Stop(b.context(), p.ID, patience); err != nil {
		b.Fatal(err)
	}
	r := b.final(p.ID)
	if r.Phase != executor.Failed || r.Reason != executor.ReasonStopped || r.ExitCode == nil || *r.ExitCode != 3 {
		b.Errorf("got %+v", r)
	}
	b.acknowledge(p.ID)
	if err := b.ex.Stop(b.context(), p.ID, 0); err != nil {
		b.Errorf("stop of a pod that has ended: %v", err)
	}
}

// awaitLog follows the log until it begins with text.
func (b *bench) awaitLog(id executor.ID, text string) {
	b.Helper()
	r, err := b.ex.Logs.Logs(b.context(), id, "main", executor.LogOptions{Follow: true})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	buf := make([]byte, len(text))
	for n := 0; n < len(text); {
		k, err := r.Read(buf[n:])
		if err != nil {
			b.Fatalf("log %q: %v", buf[:n], err)
		}
		n += k
	}
	if string(buf) != text {
		b.Fatalf("log begins with %q, want %q", buf, text)
	}
}

func stopStubborn(b *bench) {
	p := b.pod(`trap '' TERM; (trap '' TERM; sleep 100) & echo ready; while :; do sleep 0.05; done`)
	b.start(p)
	b.awaitLog(p.ID, "ready\n")
	if err := b.ex.Stop(b.context(), p.ID, 100*time.Millisecond); err != nil {
		b.Fatal(err)
	}
	if r := b.final(p.ID); r.Reason != executor.ReasonStopped || r.ExitCode == nil || *r.ExitCode != 137 {
		b.Errorf("got %+v", r)
	}
	b.acknowledge(p.ID)
}

func stopTwice(b *bench) {
	p := b.pod("sleep 100")
	b.start(p)
	for range 2 {
		if err := b.ex.Stop(b.context(), p.ID, 0); err != nil {
			b.Fatal(err)
		}
	}
	if r := b.final(p.ID); r.Phase != executor.Failed || r.Reason != executor.ReasonStopped {
		b.Errorf("got %+v", r)
	}
	b.acknowledge(p.ID)
	if err := b.ex.Stop(b.context(), executor.ID{Owner: "nobody", Node: "x"}, 0); err != nil {
		b.Errorf("stop of an unknown pod: %v", err)
	}
}

func logs(b *bench) {
	p := b.pod(`i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; printf 'no newline'`)
	b.run(p)
	all := b.log(p.ID, executor.LogOptions{})
	lines := strings.Split(strings.TrimSuffix(all, "\n"), "\n")
	if len(lines) != 3001 || lines[0] != "line 0" || lines[2999] != "line 2999" || lines[3000] != "no newline" {
		b.Fatalf("%d lines, first %q, last %q", len(lines), lines[0], lines[len(lines)-1])
	}
	if got := b.log(p.ID, executor.LogOptions{FromLine: 2998}); got != "line 2998\nline 2999\nno newline\n" {
		b.Errorf("from line 2998: %q", got)
	}
	if got := b.log(p.ID, executor.LogOptions{FromLine: -2}); got != "line 2999\nno newline\n" {
		b.Errorf("the last two: %q", got)
	}
	if got := b.log(p.ID, executor.LogOptions{FromLine: 9999}); got != "" {
		b.Errorf("beyond the end: %q", got)
	}
	stamp, text, _ := strings.Cut(b.log(p.ID, executor.LogOptions{FromLine: -1, Timestamps: true}), " ")
	if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil || text != "no newline\n" {
		b.Errorf("with timestamps: %q %q: %v", stamp, text, err)
	}
	if _, err := b.ex.Logs.Logs(b.context(), p.ID, "other", executor.LogOptions{}); err == nil {
		b.Error("the log of a container that does not exist was found")
	}
}

func follow(b *bench) {
	p := b.pod(`echo one; sleep 0.2; echo two >&2; sleep 0.1; echo three`)
	b.start(p)
	if got := b.log(p.ID, executor.LogOptions{Follow: true}); got != "one\ntwo\nthree\n" {
		b.Errorf("followed: %q", got)
	}
	b.final(p.ID)
	b.acknowledge(p.ID)
}

// Steps of Argo's examples write absolute paths such as /tmp/out, in parallel too.
func privateWrites(b *bench) {
	write := `set -e; test ! -e /tmp/out; test ! -e /private; echo %s > /tmp/out; echo %s > /private; sleep 0.2; cat /tmp/out /private`
	var pods []executor.Pod
	for _, who := range []string{"a", "b"} {
		p := b.pod(strings.ReplaceAll(write, "%s", who))
		p.Outputs.Result = true
		pods = append(pods, p)
		b.start(p)
	}
	for i, want := range []string{"a\na", "b\nb"} {
		r := b.final(pods[i].ID)
		if r.Phase != executor.Succeeded || r.Result == nil || *r.Result != want {
			b.Errorf("got %s %q, want %q; log: %s", r.Phase, r.Message, want, b.log(pods[i].ID, executor.LogOptions{}))
		}
		b.acknowledge(pods[i].ID)
	}
	for _, path := range []string{"/private"} {
		if _, err := os.Stat(path); b.setup.HostView && err == nil {
			b.Errorf("%s was written on this machine", path)
		}
	}
}

func masked(b *bench) {
	p := b.pod(`printf 'the pass'; sleep 0.05; echo 'word1 is $PASS'; echo password1; echo token: $TIPHYS_TOKEN; echo password1 > /p`)
	p.Mask = secrets("password1")
	p.Token = secret.New("token-of-this-step")
	p.Outputs = executor.Outputs{Result: true, Parameters: []manifest.Parameter{fileParameter("p", "/p")}}
	r := b.run(p)
	for what, text := range map[string]string{
		"log": b.log(p.ID, executor.LogOptions{}), "result": deref(r.Result), "parameter": r.Parameters["p"],
	} {
		if strings.Contains(text, "password1") || strings.Contains(text, "token-of-this-step") || !strings.Contains(text, secret.Mask) {
			b.Errorf("%s: %q", what, text)
		}
	}
	found := ""
	_ = filepath.WalkDir(b.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if data, err := os.ReadFile(path); err == nil && (strings.Contains(string(data), "token-of-this-step")) {
				found = path
			}
		}
		return nil
	})
	if found != "" {
		b.Errorf("the token is on disk in %s", found)
	}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func execute(b *bench) {
	p := b.pod("echo inside > /tmp/here; echo ready; sleep 100")
	b.start(p)
	b.awaitLog(p.ID, "ready\n")
	code, out, err := b.ex.Commands.Exec(b.context(), p.ID, "main", []string{"sh", "-c", "cat /tmp/here; echo err >&2; exit 5"})
	if err != nil || code != 5 || string(out) != "inside\nerr\n" {
		b.Errorf("got %d %q %v", code, out, err)
	}
	if code, _, err := b.ex.Commands.Exec(b.context(), p.ID, "main", []string{"no-such-program"}); err != nil || code == 0 {
		b.Errorf("missing command: %d %v", code, err)
	}
	if _, _, err := b.ex.Commands.Exec(b.context(), p.ID, "other", []string{"true"}); err == nil {
		b.Error("a command ran in a container that does not exist")
	}
	if err := b.ex.Stop(b.context(), p.ID, 0); err != nil {
		b.Fatal(err)
	}
	b.final(p.ID)
	b.acknowledge(p.ID)
	if _, _, err := b.ex.Commands.Exec(b.context(), p.ID, "main", []string{"true"}); err == nil {
		b.Error("a command ran in a pod that has ended")
	}
}

func attach(b *bench) {
	shared := b.TempDir()
	p := b.pod(`set -C; echo once > /shared/once; echo started; while [ ! -e /shared/go ]; do sleep 0.02; done; echo done; exit 4`)
	mounted(&p, "/shared", shared)
	b.start(p)
	b.awaitLog(p.ID, "started\n")
	b.close()
	b.seen = map[executor.ID][]executor.Report{}
	b.open()
	b.start(p) // attaches
	if err := os.WriteFile(filepath.Join(shared, "go"), nil, 0o600); err != nil {
		b.Fatal(err)
	}
	b.check(b.final(p.ID), executor.Failed, 4, "main: Error (exit code 4)")
	if got := b.log(p.ID, executor.LogOptions{}); got != "started\ndone\n" {
		b.Errorf("log: %q", got)
	}
	b.acknowledge(p.ID)
}

func endedWhileAway(b *bench) {
	shared := b.TempDir()
	p := b.pod(`while [ ! -e /shared/go ]; do sleep 0.02; done; echo out; echo kept > /file`)
	mounted(&p, "/shared", shared)
	p.Outputs = executor.Outputs{Result: true, Parameters: []manifest.Parameter{fileParameter("file", "/file")}}
	b.start(p)
	b.running(p.ID)
	b.close()
	if err := os.WriteFile(filepath.Join(shared, "go"), nil, 0o600); err != nil {
		b.Fatal(err)
	}
	for range 2 { // a final report is repeated until it is acknowledged
		b.seen = map[executor.ID][]executor.Report{}
		b.open()
		r := b.final(p.ID)
		b.check(r, executor.Succeeded, 0, "")
		if deref(r.Result) != "out" || r.Parameters["file"] != "kept" {
			b.Errorf("got %+v", r)
		}
		b.close()
	}
	b.open()
	b.acknowledge(p.ID) // whoever has it on record acknowledges without waiting for it again
	b.close()
	b.seen = map[executor.ID][]executor.Report{}
	b.open()
	marker := b.pod("true")
	b.run(marker)
	if len(b.seen[p.ID]) > 0 {
		b.Errorf("an acknowledged report came again: %+v", b.seen[p.ID])
	}
	if got := b.log(p.ID, executor.LogOptions{}); got != "out\n" {
		b.Errorf("log after acknowledgement: %q", got)
	}
}

func doubleStart(b *bench) {
	shared := b.TempDir()
	p := b.pod(`set -C; echo once > /shared/once`)
	mounted(&p, "/shared", shared)
	b.start(p)
	b.start(p)
	b.check(b.final(p.ID), executor.Succeeded, 0, "")
	b.start(p)
	b.acknowledge(p.ID)
	b.seen = map[executor.ID][]executor.Report{}
	b.start(p) // long over: the same end again
	b.check(b.final(p.ID), executor.Succeeded, 0, "")
	p.ID.Attempt = 1
	b.check(b.run(p), executor.Failed, 2, "main: Error (exit code 2)")
}

func hostileNames(b *bench) {
	for _, node := range []string{"../../../etc/passwd", "a/b", "..", strings.Repeat("x", 5000), "naïve\n\x00\u202e", "a b'\"$(reboot)"} {
		p := b.pod("echo fine")
		p.ID.Node, p.ID.Owner = node, node
		p.Outputs.Result = true
		if r := b.run(p); deref(r.Result) != "fine" {
			b.Errorf("%q: %+v", node, r)
		}
		if got := b.log(p.ID, executor.LogOptions{}); got != "fine\n" {
			b.Errorf("%q: log %q", node, got)
		}
	}
	p := b.pod("true")
	p.Outputs.Parameters = []manifest.Parameter{fileParameter("x", "../../../../../../nothing")}
	b.check(b.run(p), executor.Succeeded, 0, "")
	if _, err := b.ex.Logs.Logs(b.context(), p.ID, "../main", executor.LogOptions{}); err == nil {
		b.Error("a log was read by a path")
	}
}

func volumes(b *bench) {
	shared := b.TempDir()
	p := b.pod(`cat /config/greeting /secret/deep/key; stat -c %a /secret/deep/key; cat /labels; echo real > /shared/real; echo x > /empty/x; echo x > /memory/x; test -w /config/greeting && ! echo no > /config/greeting`)
	mounted(&p, "/shared", shared)
	mode := int32(0o400)
	p.Pod.Labels = map[string]string{"app": "x"}
	p.Pod.Spec.Volumes = append(p.Pod.Spec.Volumes,
		corev1.Volume{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "c"}}}},
		corev1.Volume{Name: "secret", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s", DefaultMode: &mode, Items: []corev1.KeyToPath{{Key: "k", Path: "deep/key"}}}}},
		corev1.Volume{Name: "empty", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		corev1.Volume{Name: "memory", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
		corev1.Volume{Name: "info", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
		}}}},
	)
	c := &p.Pod.Spec.Containers[0]
	c.VolumeMounts = append(c.VolumeMounts,
		corev1.VolumeMount{Name: "config", MountPath: "/config"}, corev1.VolumeMount{Name: "secret", MountPath: "/secret"},
		corev1.VolumeMount{Name: "empty", MountPath: "/empty"}, corev1.VolumeMount{Name: "memory", MountPath: "/memory"},
		corev1.VolumeMount{Name: "info", MountPath: "/labels", SubPath: "labels"},
	)
	p.Resolve = map[string]map[string]secret.Value{
		"ConfigMap/default/c": {"greeting": secret.New("hello\n")}, "Secret/default/s": {"k": secret.New("hidden\n")},
	}
	p.Outputs.Result = true
	r := b.run(p)
	if want := "hello\nhidden\n400\napp=\"x\""; !strings.HasPrefix(deref(r.Result), want) {
		b.Errorf("got %s %q %q; log: %s", r.Phase, r.Message, deref(r.Result), b.log(p.ID, executor.LogOptions{}))
	}
	if data, err := os.ReadFile(filepath.Join(shared, "real")); err != nil || string(data) != "real\n" {
		b.Errorf("hostPath is not the real thing: %q %v", data, err)
	}
}

// refresh is what the kubelet does with mounted ConfigMaps and Secrets (Kubernetes, Concepts, ConfigMaps, "Mounted ConfigMaps are updated automatically"; its
// layout is that of pkg/volume/util/atomic_writer.go).
func refresh(b *bench) {
	if b.ex.Volumes == nil {
		b.Fatal("it has no Volumes")
	}
	p := b.pod("echo ready; sleep 100")
	p.Pod.Labels = map[string]string{"app": "x"}
	object := func(kind, name, optional string) corev1.Volume {
		may := optional != ""
		if kind == "Secret" {
			return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name, Optional: &may}}}
		}
		return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}, Optional: &may}}}
	}
	deep := corev1.Volume{Name: "deep", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
		{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "c"}, Items: []corev1.KeyToPath{{Key: "a", Path: "one/two/a"}}}},
		{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}}},
	}}}}
	p.Pod.Spec.Volumes = []corev1.Volume{object("ConfigMap", "c", ""), object("Secret", "s", ""), object("ConfigMap", "later", "optional"), deep}
	c := &p.Pod.Spec.Containers[0]
	for _, v := range p.Pod.Spec.Volumes {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: v.Name, MountPath: "/see/" + v.Name})
	}
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "c", MountPath: "/see/sub", SubPath: "a"})
	values := func(pairs ...string) map[string]secret.Value {
		data := map[string]secret.Value{}
		for i := 0; i < len(pairs); i += 2 {
			data[pairs[i]] = secret.New(pairs[i+1])
		}
		return data
	}
	p.Resolve = map[string]map[string]secret.Value{"ConfigMap/default/c": values("a", "1", "gone", "x"), "Secret/default/s": values("k", "old")}
	sees := func(want string) {
		b.Helper()
		const look = `cd /see && for f in c/a c/gone c/new s/k later/l deep/one/two/a deep/k sub; do printf '%s=' "$f"; cat "$f" 2>/dev/null; printf ' '; done; ls c | tr '\n' ' '`
		code, out, err := b.ex.Commands.Exec(b.context(), p.ID, "main", []string{"sh", "-c", look})
		if err != nil || code != 0 || string(out) != want {
			b.Errorf("it sees %q (%d %v), want %q", out, code, err, want)
		}
	}
	again := func() {
		b.Helper()
		if err := b.ex.Volumes.Refresh(b.context(), p); err != nil {
			b.Errorf("refresh: %v", err)
		}
	}
	if err := b.ex.Volumes.Refresh(b.context(), p); !errors.Is(err, executor.ErrNotFound) {
		b.Errorf("a pod that was never started: %v", err)
	}
	b.start(p)
	b.awaitLog(p.ID, "ready\n")
	sees("c/a=1 c/gone=x c/new= s/k=old later/l= deep/one/two/a=1 deep/k=old sub=1 a gone ")
	p.Resolve = map[string]map[string]secret.Value{
		"ConfigMap/default/c": values("a", "2", "new", "y"), "Secret/default/s": values("k", "young"), "ConfigMap/default/later": values("l", "z"),
	}
	again()
	const changed = "c/a=2 c/gone= c/new=y s/k=young later/l=z deep/one/two/a=2 deep/k=young sub=1 a new "
	sees(changed)
	link := func() string {
		_, out, err := b.ex.Commands.Exec(b.context(), p.ID, "main", []string{"sh", "-c", "readlink /see/c/a /see/c/..data; ls -A /see/c | wc -l; echo x > /see/c/a"})
		if err != nil || !strings.HasPrefix(string(out), "..data/a\n..") || !strings.Contains(string(out), "\n4\n") || !strings.Contains(strings.ToLower(string(out)), "read-only") {
			b.Errorf("the volume has %q, %v", out, err)
		}
		return string(out)
	}
	before := link()
	again() // what is shown already is left alone
	if now := link(); now != before {
		b.Errorf("nothing has changed, and the volume has %q after %q", now, before)
	}
	b.close()
	b.seen = map[executor.ID][]executor.Report{}
	b.open()
	b.start(p)
	b.running(p.ID)
	// An object that is gone: who needs it keeps what there was, and who may be without it is.
	p.Resolve = map[string]map[string]secret.Value{"Secret/default/s": values("k", "new again")}
	again()
	sees("c/a=2 c/gone= c/new=y s/k=new again later/l= deep/one/two/a=2 deep/k=young sub=1 a new ")
	p.Resolve["ConfigMap/default/c"] = values("..data", "a link of its own")
	if err := b.ex.Volumes.Refresh(b.context(), p); err == nil {
		b.Error("a key with the name of the link was taken")
	}
	sees("c/a=2 c/gone= c/new=y s/k=new again later/l= deep/one/two/a=2 deep/k=young sub=1 a new ")
	if err := b.ex.Stop(b.context(), p.ID, 0); err != nil {
		b.Fatal(err)
	}
	b.final(p.ID)
	if err := b.ex.Volumes.Refresh(b.context(), p); err == nil {
		b.Error("the volumes of a pod that has ended were changed")
	}
	b.acknowledge(p.ID)
}

func subPaths(b *bench) {
	shared := b.TempDir()
	if err := os.Symlink("/etc", filepath.Join(shared, "link")); err != nil {
		b.Fatal(err)
	}
	try := func(sub string) executor.Report {
		p := b.pod("echo x > /sub/x")
		mounted(&p, "/sub", shared)
		p.Pod.Spec.Containers[0].VolumeMounts[0].SubPath = sub
		return b.run(p)
	}
	b.check(try("made/deep"), executor.Succeeded, 0, "")
	if _, err := os.Stat(filepath.Join(shared, "made/deep/x")); err != nil {
		b.Error(err)
	}
	for _, sub := range []string{"../x", "link", "link/passwd", "made/../../x"} {
		if r := try(sub); r.Phase != executor.Error {
			b.Errorf("subPath %q: %s %q", sub, r.Phase, r.Message)
		}
	}
}

func severalContainers(b *bench) {
	p := b.pod(`cat /desk/init; n=0; while [ ! -e /desk/side ] && [ $n -lt 500 ]; do sleep 0.02; n=$((n+1)); done; cat /desk/side`)
	p.Pod.Spec.Volumes = []corev1.Volume{{Name: "work", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	mounts := []corev1.VolumeMount{{Name: "work", MountPath: "/desk"}}
	p.Pod.Spec.Containers[0].VolumeMounts = mounts
	p.Pod.Spec.Containers = append(p.Pod.Spec.Containers, corev1.Container{
		Name: "side", Image: b.setup.Image, VolumeMounts: mounts, Command: []string{"sh", "-c", "echo side > /desk/tmp; mv /desk/tmp /desk/side; sleep 100"},
	})
	p.Pod.Spec.InitContainers = []corev1.Container{{Name: "init", Image: b.setup.Image, VolumeMounts: mounts, Command: []string{"sh", "-c", "echo init > /desk/init"}}}
	p.Outputs = executor.Outputs{Result: true}
	r := b.run(p)
	b.check(r, executor.Succeeded, 0, "")
	if deref(r.Result) != "init\nside" {
		b.Errorf("got %q; log %q", deref(r.Result), b.log(p.ID, executor.LogOptions{}))
	}
	p = b.pod("echo must not run")
	p.Pod.Spec.InitContainers = []corev1.Container{{Name: "init", Image: b.setup.Image, Command: []string{"sh", "-c", "exit 9"}}}
	if r := b.run(p); r.Phase != executor.Failed || r.ExitCode != nil {
		b.Errorf("after an init container that fails: %+v", r)
	}
}

func orphans(b *bench) {
	shared := b.TempDir()
	p := b.pod(`(setsid sh -c 'while :; do date > /shared/alive; sleep 0.01; done' &) ; while [ ! -e /shared/alive ]; do sleep 0.01; done`)
	mounted(&p, "/shared", shared)
	b.check(b.run(p), executor.Succeeded, 0, "")
	alive := filepath.Join(shared, "alive")
	if err := os.Remove(alive); err != nil {
		b.Fatal(err)
	}
	<-time.After(50 * time.Millisecond)
	if _, err := os.Stat(alive); err == nil {
		b.Error("a process outlived its pod")
	}
}
