package local_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"

	artifactlocal "github.com/tiphys/tiphys/artifact/local"
	"github.com/tiphys/tiphys/artifact/mover"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/local"
	"github.com/tiphys/tiphys/manifest"
)

// needUsers skips a test where pods cannot have users of their own, and says why.
func needUsers(t *testing.T, e *local.View) {
	t.Helper()
	c, err := e.Capabilities(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !c.Can[executor.AbilityUserNamespaces] {
		_ = e.Close()
		t.Skip("SKIPPED: user namespaces of pods are not tested: ", c.Why[executor.AbilityUserNamespaces])
	}
}

func withVolume(p executor.Pod, source corev1.VolumeSource) executor.Pod {
	p.Pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: source}}
	p.Pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/volume"}}
	return p
}

func claimed(name string) corev1.VolumeSource {
	return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}
}

// ids are the owner and the group of a file on this machine.
func ids(t *testing.T, path string) (uid, gid uint32) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	st, _ := info.Sys().(*syscall.Stat_t)
	return st.Uid, st.Gid
}

// first is the id on this machine of root in a pod that ended with `cat /proc/self/uid_map` as its first line.
func first(t *testing.T, r executor.Report) (outside uint32) {
	t.Helper()
	if r.Result == nil {
		t.Fatalf("%s %s: no result", r.Phase, r.Message)
	}
	var inside, size uint32
	if _, err := fmt.Sscan(*r.Result, &inside, &outside, &size); err != nil || inside != 0 || size != 65536 {
		t.Fatalf("uid_map: %q", *r.Result)
	}
	return outside
}

// Root in a container is nobody on this machine, and finds all that it has a right to.
func TestRootInAContainerIsNobodyOutside(t *testing.T) {
	needRoot(t)
	e := open(t, t.TempDir(), withImages)
	needUsers(t, e)
	defer func() { _ = e.Close() }()
	outside := first(t, run(t, e, shell(t, "cat /proc/self/uid_map")))
	if outside < 1<<30 || outside%65536 != 0 {
		t.Errorf("root is %d on this machine", outside)
	}
	for name, c := range map[string]struct{ script, want string }{
		"who":           {"id -u; id -g; id -G", "0\n0\n0"},
		"files":         {"stat -c %u:%g / /etc/passwd /etc /work /dev /dev/shm /dev/pts/ptmx /tmp", strings.Repeat("0:0\n", 7) + "0:0"},
		"own files":     {"mkdir -p /srv/x && touch /srv/x/f && chown 1000:1001 /srv/x/f && stat -c %u:%g /srv/x/f", "1000:1001"},
		"copied up":     {"echo x >> /etc/passwd && stat -c %u:%g /etc/passwd", "0:0"},
		"name files":    {"for f in hosts hostname resolv.conf; do stat -c %u:%g /etc/$f; echo '# more' >> /etc/$f || echo cannot write $f; done", "0:0\n0:0\n0:0"},
		"output":        {"echo one > /dev/stdout; echo two > /dev/stderr; echo three > /proc/self/fd/1", "one\nthree"},
		"low port":      {"python3 -c 'import socket; s = socket.socket(); s.bind((\"\", 80)); print(\"bound\")'", "bound"},
		"raw socket":    {"python3 -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); print(\"raw\")'", "raw"},
		"other user":    {"setpriv --reuid 1000 --regid 1000 --clear-groups id -u", "1000"},
		"machine's ids": {"chown 65536 /tmp 2>/dev/null || echo refused", "refused"},
		"mount":         {"mount -t tmpfs none /mnt 2>/dev/null || echo refused", "refused"},
		"settings":      {"(echo x > /proc/sys/kernel/core_pattern) 2>/dev/null || echo refused", "refused"},
		"first process": {"for f in exe root cwd fd/3 environ mem; do (cat < /proc/1/$f) >/dev/null 2>&1 && echo reached $f; done; kill -9 1 2>/dev/null || echo refused", "refused"},
	} {
		t.Run(name, func(t *testing.T) { result(t, run(t, e, shell(t, c.script)), c.want) })
	}
}

// A user of the pod has its own output, to which it writes by name as well; the same with the users of this machine.
func TestOutputBelongsToTheUser(t *testing.T) {
	needRoot(t)
	for _, host := range []bool{true, false} {
		e := open(t, t.TempDir(), withImages)
		if host {
			e = e.Host()
		}
		p := shell(t, "id -u; echo named > /dev/stdout")
		user := int64(1234)
		p.Pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &user}
		result(t, run(t, e, p), "1234\nnamed")
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What a pod writes into its own folders belongs to nobody else on this machine.
func TestPrivateFoldersBelongToTheRange(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	e := open(t, dir, withImages)
	needUsers(t, e)
	defer func() { _ = e.Close() }()
	p := shell(t, "cat /proc/self/uid_map; stat -c %u:%g /volume; touch /volume/root && chown 33:44 /volume/root; cp /bin/true /volume/true && chmod 4755 /volume/true; touch /etc/mine; sleep 60")
	group := int64(55)
	p.Pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: &group}
	p = withVolume(p, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	if err := e.Start(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	report(t, e, func(r executor.Report) bool { return r.ID == p.ID && r.Phase == executor.Running })
	awaitIn(t, e, p, "test -e /etc/mine")
	work := filepath.Join(dir, "live", folderOf(t, dir), "work")
	outside, _ := ids(t, filepath.Join(work, "c0/upper/etc/mine"))
	if outside < 1<<30 {
		t.Errorf("a file of root belongs to %d", outside)
	}
	if uid, gid := ids(t, filepath.Join(work, "volume0")); uid != outside || gid != outside+55 {
		t.Errorf("the folder belongs to %d:%d", uid, gid)
	}
	if uid, gid := ids(t, filepath.Join(work, "volume0/root")); uid != outside+33 || gid != outside+44 {
		t.Errorf("a file of 33:44 belongs to %d:%d", uid, gid)
	}
	// A set-user-id program of root is that of nobody.
	if uid, _ := ids(t, filepath.Join(work, "volume0/true")); uid != outside {
		t.Errorf("the program belongs to %d", uid)
	}
	if err := e.Stop(context.Background(), p.ID, 0); err != nil {
		t.Fatal(err)
	}
	r := report(t, e, func(r executor.Report) bool { return r.ID == p.ID && r.Phase.Done() })
	if !strings.HasSuffix(*r.Result, "\n0:55") {
		t.Errorf("%q", *r.Result)
	}
}

// folderOf is the name of the one attempt.
func folderOf(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "live"))
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	return entries[0].Name()
}

// awaitIn runs a command in the pod until it succeeds.
func awaitIn(t *testing.T, e *local.View, p executor.Pod, command string) {
	t.Helper()
	for t.Context().Err() == nil {
		code, _, err := e.Exec(t.Context(), p.ID, "main", []string{"sh", "-c", command})
		if err != nil {
			t.Fatal(err)
		}
		if code == 0 {
			return
		}
	}
}

// A claim has the same owners for pods with different ranges, and for pods with the users of this machine.
func TestClaimsHaveTheIdsOfTheInside(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	e := open(t, dir, withImages)
	needUsers(t, e)
	defer func() { _ = e.Close() }()
	write := withVolume(shell(t, "cat /proc/self/uid_map; cd /volume; stat -c %u:%g .; echo of root > root; mkdir d; echo of 1000 > d/other; chown -R 1000:1001 d"), claimed("shared"))
	a := first(t, run(t, e, write))
	for path, want := range map[string][2]uint32{"": {0, 0}, "root": {0, 0}, "d": {1000, 1001}, "d/other": {1000, 1001}} {
		if uid, gid := ids(t, filepath.Join(dir, "volumes/claims/default/shared", path)); [2]uint32{uid, gid} != want {
			t.Errorf("%s: %d:%d on disk", path, uid, gid)
		}
	}
	user := int64(1000)
	read := withVolume(shell(t, "cat /proc/self/uid_map; cd /volume; stat -c %u:%g root d/other; cat root d/other; echo more >> d/other; ! echo no 2>/dev/null >> root"), claimed("shared"))
	read.Pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &user}
	r := run(t, e, read)
	if b := first(t, r); b == a {
		t.Errorf("two pods in a row have the range %d", b)
	}
	if !strings.HasSuffix(*r.Result, "0:0\n1000:1001\nof root\nof 1000") || r.Phase != executor.Succeeded {
		t.Errorf("%s %s %q", r.Phase, r.Message, *r.Result)
	}
	yes := true
	same := withVolume(shell(t, "stat -c %u:%g /volume/root /volume/d/other; cat /volume/d/other"), claimed("shared"))
	same.Pod.Spec.HostUsers = &yes
	result(t, run(t, e, same), "0:0\n1000:1001\nof 1000\nmore")
	sub := withVolume(shell(t, "stat -c %u:%g /volume /volume/other"), claimed("shared"))
	sub.Pod.Spec.Containers[0].VolumeMounts[0].SubPath = "d"
	result(t, run(t, e, sub), "1000:1001\n1000:1001")
	made := withVolume(shell(t, "stat -c %u:%g /volume"), claimed("shared"))
	made.Pod.Spec.Containers[0].VolumeMounts[0].SubPath = "made/for/it"
	result(t, run(t, e, made), "0:0")
}

// Input artifacts, files of objects and volumes in memory belong to root in the pod.
func TestWhatIsHandedInBelongsToRoot(t *testing.T) {
	needRoot(t)
	e := open(t, t.TempDir(), withImages, withStore(t))
	needUsers(t, e)
	defer func() { _ = e.Close() }()
	raw := func(name, path string) manifest.Artifact {
		return manifest.Artifact{Name: name, Path: path, ArtifactLocation: manifest.ArtifactLocation{Raw: &manifest.RawArtifact{Data: name}}}
	}
	group := int64(77)
	p := shell(t, `stat -c '%n %u:%g' /in /volume/deep /volume/deep/in /claim/deep/in /memory /memory/f; echo more >> /in && echo more >> /volume/deep/in && echo more >> /claim/deep/in && touch /memory/f && stat -c %u:%g /memory/f; stat -Lc '%n %u:%g' /text/key`)
	p.Inputs = []manifest.Artifact{raw("a", "/in"), raw("b", "/volume/deep/in"), raw("c", "/claim/deep/in")}
	p.Pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: &group}
	p.Pod.Spec.Volumes = []corev1.Volume{
		{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}, {Name: "c", VolumeSource: claimed("handed")},
		{Name: "m", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
		{Name: "t", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "key", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}},
		}}}},
	}
	p.Pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/volume"}, {Name: "c", MountPath: "/claim"}, {Name: "m", MountPath: "/memory"}, {Name: "t", MountPath: "/text"}}
	want := "/in 0:0\n/volume/deep 0:77\n/volume/deep/in 0:0\n/claim/deep/in 0:0\n/memory 0:0\n0:0\n/text/key 0:77"
	r := run(t, e, p)
	got := ""
	if r.Result != nil {
		got = strings.Replace(*r.Result, "/volume/deep 0:0", "/volume/deep 0:77", 1) // made by us, whose group is the folder's or not
	}
	if got != want {
		t.Errorf("%s %s\n%s\nwant\n%s", r.Phase, r.Message, got, want)
	}
}

// Pods that need this machine's users have them, and none that asks for its own gets them.
func TestHostUsers(t *testing.T) {
	needRoot(t)
	e := open(t, t.TempDir(), withImages)
	needUsers(t, e)
	defer func() { _ = e.Close() }()
	yes, no, high := true, false, int64(65536)
	everybody := "0 0 4294967295"
	for name, c := range map[string]struct {
		change func(*corev1.PodSpec)
		map_   string // of the users; empty for a range
		field  string // that is refused
	}{
		"by default":          {func(*corev1.PodSpec) {}, "", ""},
		"asked for":           {func(s *corev1.PodSpec) { s.HostUsers = &no }, "", ""},
		"not wanted":          {func(s *corev1.PodSpec) { s.HostUsers = &yes }, everybody, ""},
		"privileged":          {func(s *corev1.PodSpec) { privileged(s) }, everybody, ""},
		"host path":           {func(s *corev1.PodSpec) { hostPathed(s) }, everybody, ""},
		"host network":        {func(s *corev1.PodSpec) { s.HostNetwork = true }, everybody, ""},
		"both":                {func(s *corev1.PodSpec) { s.HostUsers = &no; privileged(s) }, "", "spec.hostUsers"},
		"both by path":        {func(s *corev1.PodSpec) { s.HostUsers = &no; hostPathed(s) }, "", "spec.hostUsers"},
		"both by network":     {func(s *corev1.PodSpec) { s.HostUsers = &no; s.HostNetwork = true }, "", "spec.hostUsers"},
		"beyond":              {func(s *corev1.PodSpec) { s.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &high} }, "", "spec.securityContext.runAsUser"},
		"group beyond":        {func(s *corev1.PodSpec) { s.SecurityContext = &corev1.PodSecurityContext{FSGroup: &high} }, "", "spec.securityContext.fsGroup"},
		"beyond in container": {func(s *corev1.PodSpec) { s.Containers[0].SecurityContext = &corev1.SecurityContext{RunAsUser: &high} }, "", "spec.containers[0].securityContext.runAsUser"},
	} {
		t.Run(name, func(t *testing.T) {
			p := shell(t, "cat /proc/self/uid_map")
			c.change(&p.Pod.Spec)
			problems, err := e.Check(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			refused := ""
			for _, problem := range problems {
				if problem.Fatal {
					refused = problem.Path
				}
			}
			if refused != c.field {
				t.Fatalf("refused: %q, want %q: %v", refused, c.field, problems)
			}
			if refused != "" {
				return
			}
			r := run(t, e, p)
			if c.map_ == "" {
				first(t, r)
			} else if r.Result == nil || strings.Join(strings.Fields(*r.Result), " ") != c.map_ {
				t.Errorf("%+v", r)
			}
		})
	}
	if problems, err := e.Host().Check(t.Context(), func() executor.Pod { p := shell(t, "x"); p.Pod.Spec.HostUsers = &no; return p }()); err != nil || executor.Refused(problems) == nil {
		t.Errorf("the host executor takes hostUsers: false: %v %v", problems, err)
	}
}

func privileged(s *corev1.PodSpec) {
	yes := true
	s.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: &yes}
}

func hostPathed(s *corev1.PodSpec) {
	s.Volumes = []corev1.Volume{{Name: "h", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var"}}}}
}

// No two pods that live have a range in common: not those of two servers, nor of one before and one after its restart.
func TestRangesAreApart(t *testing.T) {
	needRoot(t)
	dirs := []string{t.TempDir(), t.TempDir()}
	change := func(n int) func(*local.Options) {
		return func(o *local.Options) {
			o.Network.Bridge += fmt.Sprint("abc"[n : n+1])
			o.Network.Subnet = testAddress(128+64*n) + "/26"
		}
	}
	seen := map[uint32]string{}
	begin := func(e *local.View, server, n int) executor.Pod {
		p := shell(t, "touch /ready; sleep 60")
		p.ID.Node, p.ID.Attempt = fmt.Sprint("server", server), n
		if err := e.Start(context.Background(), p); err != nil {
			t.Fatal(err)
		}
		report(t, e, func(r executor.Report) bool { return r.ID == p.ID && r.Phase == executor.Running })
		_, out, err := e.Exec(t.Context(), p.ID, "main", []string{"cat", "/proc/self/uid_map"})
		if err != nil {
			t.Fatal(err)
		}
		text := string(out)
		outside := first(t, executor.Report{Result: &text})
		if other, ok := seen[outside]; ok {
			t.Errorf("pod %d of server %d has the range of %s", n, server, other)
		}
		seen[outside] = fmt.Sprintf("pod %d of server %d", n, server)
		return p
	}
	var pods []executor.Pod
	for server, dir := range dirs {
		e := open(t, dir, withImages, change(server))
		needUsers(t, e)
		for n := range 3 {
			pods = append(pods, begin(e, server, n))
		}
		if err := e.Close(); err != nil { // the pods go on
			t.Fatal(err)
		}
	}
	for server, dir := range dirs {
		e := open(t, dir, withImages, change(server))
		for n := range 3 {
			begin(e, server, 3+n)
		}
		for n := range 6 {
			id := pods[0].ID
			id.Node, id.Attempt = fmt.Sprint("server", server), n
			if err := e.Stop(context.Background(), id, 0); err != nil {
				t.Fatal(err)
			}
			report(t, e, func(r executor.Report) bool { return r.ID == id && r.Phase.Done() })
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// withStore has artifacts kept.
func withStore(t *testing.T) func(*local.Options) {
	store, err := artifactlocal.Open(t.TempDir(), artifactlocal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return func(o *local.Options) { o.Mover = mover.New(mover.Options{Store: store, TempDir: t.TempDir()}) }
}

// Nobody writes to the program that pods are started by, not even root of this machine by what a pod's processes were started from.
func TestProgramCannotBeWritten(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	e := open(t, dir, withImages)
	yes := true
	p := shell(t, "printf '#!/proc/self/exe\\n' > /s && chmod 755 /s && (/s; true); (echo x > /.tiphys/bin/tiphys) 2>/dev/null || echo refused; touch /done; sleep 60")
	p.Pod.Spec.HostUsers = &yes
	if err := e.Start(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	report(t, e, func(r executor.Report) bool { return r.ID == p.ID && r.Phase == executor.Running })
	awaitIn(t, e, p, "test -e /done")
	data, err := os.ReadFile(filepath.Join(dir, "live", folderOf(t, dir), "shim.json"))
	if err != nil {
		t.Fatal(err)
	}
	var shim struct{ PID int }
	if err := json.Unmarshal(data, &shim); err != nil {
		t.Fatal(err)
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", shim.PID, shim.PID))
	if err != nil {
		t.Fatal(err)
	}
	var held []*os.File // while it runs nobody can write to it anyway
	for _, pid := range append(strings.Fields(string(children)), fmt.Sprint(shim.PID)) {
		f, err := os.Open("/proc/" + pid + "/exe")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		held = append(held, f)
	}
	if err := e.Stop(context.Background(), p.ID, 0); err != nil {
		t.Fatal(err)
	}
	r := report(t, e, func(r executor.Report) bool { return r.ID == p.ID && r.Phase.Done() })
	if r.Result == nil || *r.Result != "refused" {
		t.Errorf("%+v", r)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	for _, f := range held {
		w, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_WRONLY, 0)
		if err == nil {
			_ = w.Close()
		}
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("%v, want a read-only file system", err)
		}
	}
}

// The topmost cgroup that a container sees is its own.
func TestCgroupNamespace(t *testing.T) {
	needRoot(t)
	for _, host := range []bool{true, false} {
		e := open(t, t.TempDir(), withImages)
		if host {
			e = e.Host()
		}
		if r := run(t, e, shell(t, `test -e /proc/self/ns/cgroup && grep -v ':/$' /proc/self/cgroup; true`)); r.Result == nil || *r.Result != "" {
			t.Errorf("host %v: %s %q", host, r.Phase, *r.Result)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
