package local_test

import (
	"errors"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/health"
)

// The rules are those of concepts/storage/persistent-volumes of Kubernetes.

func claim(name, size string) string {
	return "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: " + name + ", namespace: prod}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: " + size + "}}}}"
}

// claiming is a pod that mounts a claim.
func claiming(name, claim string) string {
	return "{apiVersion: v1, kind: Pod, metadata: {name: " + name + ", namespace: prod}, spec: {terminationGracePeriodSeconds: 5, containers: [{name: c, image: 'app:v1'}], volumes: [{name: v, persistentVolumeClaim: {claimName: " + claim + "}}]}}"
}

func app1() deploy.ApplyOptions { return deploy.ApplyOptions{Application: "default/app"} }

func (m *machine) runs(pod string) bool {
	return field(m.get("Pod", pod), "status", "phase") == "Running"
}

// waitsFor gives why a pod waits.
func (m *machine) waitsFor(pod string) string {
	list, _ := field(m.get("Pod", pod), "status", "containerStatuses").([]any)
	if len(list) == 0 {
		return ""
	}
	status, _ := list[0].(map[string]any)
	reason, _, _ := unstructured.NestedString(status, "state", "waiting", "reason")
	message, _, _ := unstructured.NestedString(status, "state", "waiting", "message")
	return reason + ": " + message
}

func TestClaimsChange(t *testing.T) {
	m := newMachine(t)
	m.apply(claim("data", "1Gi"))
	m.awaitHealth("PersistentVolumeClaim", "data", health.Healthy)
	uid := m.get("PersistentVolumeClaim", "data").GetUID()
	if v := m.executor.claims["prod/pvc-"+string(uid)]; v.Owner != "object-"+string(uid) {
		t.Errorf("volume %+v", v)
	}
	m.apply(claim("data", "2Gi"))
	m.await("it has grown", func() bool {
		return field(m.get("PersistentVolumeClaim", "data"), "status", "capacity", "storage") == "2Gi"
	})
	m.apply(claim("data", "2048Mi")) // the same in other words
	m.apply(strings.Replace(claim("data", "2Gi"), "spec: {", "spec: {volumeMode: Filesystem, ", 1))
	for want, document := range map[string]string{
		"does not shrink":                 claim("data", "1Gi"),
		"only resources.requests.storage": strings.Replace(claim("data", "2Gi"), "ReadWriteOnce", "ReadWriteMany", 1),
	} {
		for _, force := range []bool{false, true} {
			opt := app1()
			opt.Force, opt.Replace = force, force
			if err := m.try(document, opt); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("force %t: %v, want %q", force, err, want)
			}
		}
	}
	if got := m.get("PersistentVolumeClaim", "data"); got.GetUID() != uid || got.GetDeletionTimestamp() != nil {
		t.Error("it was made anew")
	}
}

func TestClaimsAreRefused(t *testing.T) {
	m := newMachine(t)
	for _, spec := range []string{
		"volumeName: pv0", "selector: {matchLabels: {a: b}}", "volumeMode: Block", "dataSource: {kind: PersistentVolumeClaim, name: x}",
		"dataSourceRef: {kind: PersistentVolumeClaim, name: x}", "storageClassName: ''",
	} {
		if err := m.try(strings.Replace(claim("data", "1Gi"), "spec: {", "spec: {"+spec+", ", 1), app1()); err == nil || strings.Contains(err.Error(), "not on this machine yet") {
			t.Errorf("%s: %v", spec, err)
		}
	}
	for what, document := range map[string]string{
		"no size":           "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data, namespace: prod}, spec: {accessModes: [ReadWriteOnce]}}",
		"no access mode":    "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data, namespace: prod}, spec: {resources: {requests: {storage: 1Gi}}}}",
		"an unknown policy": strings.Replace(claim("data", "1Gi"), "metadata: {", "metadata: {annotations: {tiphys.dev/reclaim-policy: Recycle}, ", 1),
		"a bad name":        claim("../../data", "1Gi"),
		"a long name":       claim(strings.Repeat("d", 201), "1Gi"),
		"nothing":           claim("data", "0"),
	} {
		if err := m.try(document, app1()); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}

// TestPodsWaitForClaims: a pod begins when its claim is there, whenever that is.
func TestPodsWaitForClaims(t *testing.T) {
	m := newMachine(t)
	m.apply(claiming("p", "data"))
	m.await("it waits", func() bool {
		return strings.Contains(m.waitsFor("p"), `WaitingForClaim: persistentvolumeclaim "data" not found`)
	})
	m.reopen()
	m.await("it still waits", func() bool { return strings.Contains(m.waitsFor("p"), "WaitingForClaim") })
	if n := m.executor.alive()["p"]; n != 0 {
		t.Errorf("%d run", n)
	}
	m.apply(claim("data", "1Gi"))
	m.await("it runs", func() bool { return m.runs("p") })
	m.reopen()
	m.await("it runs after a restart", func() bool { return m.runs("p") && m.executor.alive()["p"] == 1 })
}

// TestClaimsOfOthers: a claim of another Application is out of reach, in the same namespace and by whatever name.
func TestClaimsOfOthers(t *testing.T) {
	m := newMachine(t)
	m.apply(claim("data", "1Gi"))
	m.awaitHealth("PersistentVolumeClaim", "data", health.Healthy)
	uid := string(m.get("PersistentVolumeClaim", "data").GetUID())
	other := deploy.ApplyOptions{Application: "default/other"}
	if err := m.try(claiming("thief", "data"), other); err != nil {
		t.Fatal(err)
	}
	if err := m.try(claiming("guess", "pvc-"+uid), other); err != nil {
		t.Fatal(err)
	}
	set := strings.ReplaceAll(web("app:v1", 1), "name: www", "name: x")
	m.apply(claim("x-web-0", "1Gi"))
	if err := m.try(set, other); err != nil {
		t.Fatal(err)
	}
	m.await("they wait", func() bool {
		return strings.Contains(m.waitsFor("thief"), `belongs to the application "default/app"`) && strings.Contains(m.waitsFor("guess"), "not found") &&
			strings.Contains(m.said("StatefulSet", "web"), "PersistentVolumeClaim x-web-0 is there already")
	})
	m.reopen()
	m.await("they still wait", func() bool { return strings.Contains(m.waitsFor("thief"), "belongs to") })
	if alive := m.executor.alive(); len(alive) != 0 {
		t.Errorf("%v run", alive)
	}
	owned := &deploy.OwnedError{}
	if err := m.try(claim("data", "2Gi"), other); !errors.As(err, &owned) {
		t.Errorf("it is taken: %v", err)
	}
	preview := deploy.ApplyOptions{Application: "default/preview", For: podpolicy.Subject{Kind: podpolicy.Application, Name: "default/preview", MergeRequest: 3}}
	shared := &deploy.PreviewError{}
	if err := m.try(claiming("mr", "data"), preview); !errors.As(err, &shared) {
		t.Errorf("a preview comes into the namespace: %v", err)
	}
}

// said is what an object's conditions say.
func (m *machine) said(kind, name string) string {
	list, _ := field(m.get(kind, name), "status", "conditions").([]any)
	var text []string
	for _, item := range list {
		c, _ := item.(map[string]any)
		message, _ := c["message"].(string)
		text = append(text, message)
	}
	return strings.Join(text, ", ")
}

// TestClaimsGo: concepts/storage/persistent-volumes#storage-object-in-use-protection: a claim goes when no pod uses it any more.
func TestClaimsGo(t *testing.T) {
	m := newMachine(t)
	m.apply(claim("data", "1Gi"))
	m.apply(claiming("p", "data"))
	m.await("it runs", func() bool { return m.runs("p") })
	m.delete("", "PersistentVolumeClaim", "data")
	m.apply(claiming("late", "data"))
	m.reopen()
	m.await("the pod goes on", func() bool { return m.runs("p") && strings.Contains(m.waitsFor("late"), "is being deleted") })
	if m.get("PersistentVolumeClaim", "data") == nil || m.executor.volumes() != 1 {
		t.Fatal("the claim of a pod that runs is gone")
	}
	if err := m.try(claim("data", "1Gi"), app1()); !errors.Is(err, deploy.ErrLeaving) {
		t.Errorf("while it goes it is made again: %v", err)
	}
	m.delete("", "Pod", "p")
	m.await("the claim is gone, and what was in it", func() bool { return m.get("PersistentVolumeClaim", "data") == nil && m.executor.volumes() == 0 })
	m.apply(claim("data", "1Gi"))
	m.await("the one that came late runs", func() bool { return m.runs("late") })
}

func TestVolumesStay(t *testing.T) {
	const class = "{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: NAME, annotations: {storageclass.kubernetes.io/is-default-class: 'DEFAULT'}}, provisioner: x, reclaimPolicy: POLICY}"
	m := newMachine(t)
	of := func(name, standard, policy string) string {
		return strings.NewReplacer("NAME", name, "DEFAULT", standard, "POLICY", policy).Replace(class)
	}
	preview := deploy.ApplyOptions{Application: "default/preview", For: podpolicy.Subject{Kind: podpolicy.Application, Name: "default/preview", MergeRequest: 3}}
	m.apply(of("keeping", "false", "Retain"))
	if err := m.try(of("preview", "true", "Retain"), preview); err != nil {
		t.Fatal(err)
	}
	retain := "metadata: {annotations: {tiphys.dev/reclaim-policy: Retain}, "
	classy := func(document, class string) string {
		return strings.Replace(document, "spec: {", "spec: {storageClassName: "+class+", ", 1)
	}
	for _, c := range []struct {
		name, document string
		opt            deploy.ApplyOptions
		stays          bool
	}{
		{"by default", claim("a", "1Gi"), app1(), false},
		{"by annotation", strings.Replace(claim("a", "1Gi"), "metadata: {", retain, 1), app1(), true},
		{"by class", classy(claim("a", "1Gi"), "keeping"), app1(), true},
		{"by a class that is not there", classy(claim("a", "1Gi"), "gp3"), app1(), false},
		{"by a preview's class", classy(claim("a", "1Gi"), "preview"), app1(), false},
		{"the note is nobody else's", strings.Replace(claim("a", "1Gi"), "metadata: {", "metadata: {annotations: {target.tiphys.dev/reclaim-policy: Retain, target.tiphys.dev/kept: x}, ", 1), app1(), false},
		{"in a preview", strings.Replace(strings.Replace(claim("a", "1Gi"), "metadata: {", retain, 1), "namespace: prod", "namespace: preview", 1), preview, false},
	} {
		before := m.executor.volumes()
		if err := m.try(c.document, c.opt); err != nil {
			t.Fatal(c.name, err)
		}
		key := deploy.Key{Kind: "PersistentVolumeClaim", Namespace: "prod", Name: "a"}
		if c.opt.For.MergeRequest != 0 {
			key.Namespace = "preview"
		}
		m.await(c.name+": it is bound", func() bool { return m.executor.volumes() == before+1 })
		if err := m.Delete(t.Context(), key, c.opt); err != nil {
			t.Fatal(err)
		}
		m.await(c.name+": it is gone", func() bool { _, err := m.Get(t.Context(), key); return errors.Is(err, deploy.ErrNotFound) })
		if stays := m.executor.volumes() == before+1; stays != c.stays {
			t.Errorf("%s: the volume stays: %t", c.name, stays)
		}
	}
}

// TestOnePodAtATime: ReadWriteOncePod.
func TestOnePodAtATime(t *testing.T) {
	m := newMachine(t)
	m.apply(strings.Replace(claim("data", "1Gi"), "ReadWriteOnce", "ReadWriteOncePod", 1))
	m.awaitHealth("PersistentVolumeClaim", "data", health.Healthy)
	m.apply(claiming("p", "data"))
	m.await("it runs", func() bool { return m.runs("p") })
	m.apply(claiming("q", "data"))
	m.await("the other waits", func() bool { return strings.Contains(m.waitsFor("q"), "p has it") })
	m.delete("", "Pod", "p")
	m.await("then it runs", func() bool { return m.runs("q") })
}
