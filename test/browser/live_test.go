package browser

import "testing"

// many is a run of thousands of steps that end one after another for longer than anybody waits here.
const many = `apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: quay-many}
spec:
  entrypoint: main
  templates:
  - name: main
    steps: [[{name: moor, template: gate, withSequence: {count: "4400"}, arguments: {parameters: [{name: t, value: "{{=1000 + asInt(item) * 30}}ms"}]}}]]
  - name: gate
    inputs: {parameters: [{name: t}]}
    suspend: {duration: "{{inputs.parameters.t}}"}
`

// showsALiveRun: a page that is opened while steps end all the time shows them, all of them, and takes their ends as they come;
// a loop that is opened has only the steps in sight in the page.
func (b *browser) showsALiveRun(t *testing.T, s served) {
	s.submit(t, many)
	b.want(t, s.url+"/runs/default/quay-many?view=list", "moor", "4400 × –", "succeeded")
	b.until(t, "steps end in the page", `
const n = /([0-9]+) succeeded/.exec(document.querySelector('.tree')?.textContent ?? '')?.[1] ?? 0;
window.first ??= Number(n);
return Number(n) > window.first && document.querySelector('.reading') === null;`)
	b.until(t, "the loop opens", `
const stack = [...document.querySelectorAll('.leaf')].find((e) => e.textContent.includes('4400 ×'));
stack?.click();
const rows = document.querySelectorAll('.leaf').length;
return rows > 10 && rows < 200 && document.querySelector('.tree').offsetHeight > 4400 * 40;`)
}
