package trust

import (
	"fmt"
	"strings"
	"testing"
)

// A merge request moved the tag that the main branch's pipeline and production pulled, and named its own image by the tag of another
// merge request. It has tags of its own now, which a protected ref does not read.
func TestMergeRequestTakesNoTagOfTheMainBranch(t *testing.T) {
	w := server(t, granted("poison"))
	apply(t, w, "sensors.yaml", pipelines("poison"))
	c := newClone(t, w, "poison")
	c.push("main", "README", "Harmless\n")
	pack := `cp "$(command -v tiphys)" /tmp/app
for tag in latest v1 mr-2-x branch-x mr-1-x; do
  echo "== $tag"
  tiphys image pack --name poison/app --tag $tag --entrypoint /app --output /tmp/ref /tmp/app 2>&1 && cat /tmp/ref && echo
done
true`
	c.push("try", "ci.yaml", pipeline("request", "", shell(pack)))
	run, log := runNamed(t, w, "request")
	if run.ActsFor.MR != 1 || strings.Count(log, `may push by digest or a tag that begins with mr-1-`) != 4 || !strings.Contains(log, "poison/app@sha256:") {
		t.Fatalf("the merge request pushes what is its own: %+v %s", run, log)
	}
	c.git("checkout", "-q", "main")
	pull := func(name, tag string) string {
		return pipeline(name, "", fmt.Sprintf("metadata: {annotations: {tiphys.dev/executor: container}}\ncontainer: {image: 'poison/app:%s', command: [/app, --help]}", tag))
	}
	c.push("main", "ci.yaml", pull("taken", "mr-1-x"))
	if run, log := runNamed(t, w, "taken"); !run.ActsFor.Protected || run.Phase == "Succeeded" || !strings.Contains(run.Message+log, "written by a run with other rights") {
		t.Errorf("the main branch read the merge request's tag: %+v %s", run, log)
	}
	c.push("main", "ci.yaml", pull("latest", "latest"))
	if run, log := runNamed(t, w, "latest"); run.Phase == "Succeeded" || strings.Contains(run.Message, "other rights") {
		t.Errorf("somebody pushed the tag latest: %+v %s", run, log)
	}
}

// A merge request wrote into a volume that the main branch's pipeline read its tools from.
func TestMergeRequestWritesNoVolumeOfTheMainBranch(t *testing.T) {
	w := server(t, "{to: {repositories: [poison], mergeRequests: true}, executors: [host], claims: [shared]}")
	apply(t, w, "sensors.yaml", pipelines("poison"))
	apply(t, w, "claim.yaml", "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: shared}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}}\n")
	c := newClone(t, w, "poison")
	flow := func(name, script string) string {
		text := shell(script)
		text = strings.Replace(text, "  command: [sh]\n", "  command: [sh]\n  volumeMounts: [{name: v, mountPath: /v}]\n", 1)
		return pipeline(name, "volumes: [{name: v, persistentVolumeClaim: {claimName: shared}}]", text)
	}
	c.push("main", "ci.yaml", flow("first", "echo clean > /v/tool; echo read-$(cat /v/tool)"))
	if run, log := runNamed(t, w, "first"); !run.ActsFor.Protected || !strings.Contains(log, "read-clean") {
		t.Fatalf("the main branch writes its volume: %+v %s", run, log)
	}
	c.push("try", "ci.yaml", flow("request", `(echo poisoned > /v/tool) 2>&1
(echo poisoned > /v/another) 2>&1
(mount -o remount,rw /v && echo poisoned > /v/tool) 2>&1
echo read-$(cat /v/tool)`))
	if run, log := runNamed(t, w, "request"); run.ActsFor.MR == 0 || !strings.Contains(log, "read-clean") || strings.Contains(log, "read-poisoned") {
		t.Errorf("the merge request reads the volume and does not write it: %+v %s", run, log)
	}
	c.git("checkout", "-q", "main")
	c.push("main", "ci.yaml", flow("main", "echo read-$(cat /v/tool); ls /v"))
	if run, log := runNamed(t, w, "main"); !run.ActsFor.Protected || !strings.Contains(log, "read-clean") || strings.Contains(log, "poisoned") || strings.Contains(log, "another") {
		t.Errorf("the main branch read what the merge request wrote: %+v %s", run, log)
	}
}
