package browser

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

const gated = `apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: quay-gate}
spec:
  entrypoint: main
  templates:
  - name: main
    steps: [[{name: approve, template: gate}], [{name: ship, template: say, arguments: {parameters: [{name: answer, value: "{{steps.approve.outputs.parameters.answer}}"}]}}]]
  - name: gate
    inputs: {parameters: [{name: answer, default: "no", enum: ["yes", "no"]}]}
    suspend: {}
    outputs: {parameters: [{name: answer, valueFrom: {supplied: {}}}]}
  - name: say
    inputs: {parameters: [{name: answer}]}
    container: {image: busybox, command: [echo, "the answer was {{inputs.parameters.answer}}"]}
`

// want fails the test unless the page at an address shows all of it.
func (b *browser) want(t *testing.T, url string, words ...string) {
	t.Helper()
	if err := b.shows(url, words); err != nil {
		t.Error(err)
	}
}

// js runs a script in the page and reads what it returns into out.
func (b *browser) js(script string, out any) error {
	return b.call(http.MethodPost, "/execute/sync", map[string]any{"script": script, "args": []any{}}, out)
}

// until waits for a script to return true.
func (b *browser) until(t *testing.T, what, script string) {
	t.Helper()
	var page string
	for began := time.Now(); time.Since(began) < patience; {
		yes := false
		if b.js(script, &yes) == nil && yes {
			return
		}
	}
	_ = b.call(http.MethodGet, "/source", nil, &page)
	t.Fatalf("%s: it does not happen; the page shows:\n%s", what, text(page))
}

// press presses keys, each once. Enter is \uE007 and Tab \uE004 (WebDriver, 17.4.2 Keyboard actions).
func (b *browser) press(t *testing.T, keys string) {
	t.Helper()
	var actions []map[string]string
	for _, k := range keys {
		actions = append(actions, map[string]string{"type": "keyDown", "value": string(k)}, map[string]string{"type": "keyUp", "value": string(k)})
	}
	if err := b.call(http.MethodPost, "/actions", map[string]any{"actions": []any{map[string]any{"type": "key", "id": "keys", "actions": actions}}}, nil); err != nil {
		t.Fatal(err)
	}
}

// usable finds what keeps a page from being used by everybody: things to press without a name, no heading or several,
// and words that leave a phone's screen. What scrolls by itself, as a log does, may be wider.
const usable = `
const named = (e) => e.getAttribute('aria-label') || e.textContent.trim() || e.closest('label')?.textContent.trim();
const faults = [...document.querySelectorAll('a[href], button, input, select, [role=button]')]
  .filter((e) => e.getBoundingClientRect().width && !named(e)).map((e) => 'no name: ' + e.outerHTML.slice(0, 120));
const heads = document.querySelectorAll('h1').length;
if (heads !== 1) faults.push(heads + ' headings of the first level');
if (document.documentElement.scrollWidth > 390) faults.push('scrolls sideways on a phone: ' + document.documentElement.scrollWidth + ' pixels');
return faults;`

func (b *browser) isUsable(t *testing.T) {
	t.Helper()
	phone := map[string]any{"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": true}
	if err := b.devtools("Emulation.setDeviceMetricsOverride", phone); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.devtools("Emulation.clearDeviceMetricsOverride", map[string]any{}) }()
	var faults []string
	if err := b.js(usable, &faults); err != nil {
		t.Fatal(err)
	}
	if len(faults) > 0 {
		t.Error(strings.Join(faults, "\n"))
	}
}

func (b *browser) devtools(cmd string, params map[string]any) error {
	return b.call(http.MethodPost, "/goog/cdp/execute", map[string]any{"cmd": cmd, "params": params}, nil)
}

// An attempt that failed and was made good by the next is not where a person wants to look first.
func (b *browser) landsOnTheFailure(t *testing.T, url string) {
	b.want(t, url+"/runs/default/quay-check", "the rope is too short")
	b.until(t, "the step that failed the run is chosen", `return document.querySelector('.panel h2')?.textContent === 'moor'`)
	// The keyboard goes to the step before, and the graph is reached by Tab.
	b.press(t, "k")
	b.until(t, "k chooses the step before", `return document.querySelector('.panel h2')?.textContent === 'tests(1)'`)
	if err := b.js(`document.querySelector('a.skip').focus()`, nil); err != nil {
		t.Fatal(err)
	}
	b.press(t, "\uE004\uE004")
	b.until(t, "Tab goes on to the first link and shows where it is",
		`const e = document.activeElement; return e.textContent === 'Runs' && getComputedStyle(e).outlineStyle === 'solid'`)
}

// What starts something anew asks first, and can be left with the keyboard.
func (b *browser) retryAsks(t *testing.T, url string) {
	b.want(t, url+"/runs/default/quay-check", "Retry")
	focus := func(words string) string {
		return `const e = [...document.querySelectorAll('button')].find((e) => e.textContent === '` + words + `'); e?.focus(); return !!e`
	}
	b.until(t, "there is a button for a retry", focus("Retry"))
	b.press(t, "\uE007")
	b.until(t, "it asks", focus("Cancel"))
	b.press(t, "\uE007")
	b.until(t, "it is as before", focus("Retry"))
	b.want(t, url+"/runs/default/quay-check", "Failed")
}

// A step that waits for an answer takes it on the screen, and the run goes on before one's eyes.
func (b *browser) resumes(t *testing.T, url string) {
	b.want(t, url+"/runs/default/quay-gate", "waits to be resumed", "Resume")
	b.until(t, "the answers are offered", `const s = document.querySelector('.resume select');
		if (!s) return false; s.value = 'yes'; s.dispatchEvent(new Event('change', {bubbles: true})); return true`)
	b.until(t, "there is a button to let it go on", `const e = document.querySelector('.resume button'); e?.focus(); return !!e`)
	b.press(t, "\uE007")
	b.until(t, "the run ends without being loaded again", `return document.querySelector('.head .state')?.textContent.includes('Succeeded')`)
	b.want(t, url+"/runs/default/quay-gate?view=list", "ship", "Succeeded")
	b.until(t, "the answer went on to the next step", `const l = [...document.querySelectorAll('.leaf')].find((e) => e.textContent.includes('ship')); l?.click();
		return document.querySelector('.lines')?.textContent.includes('the answer was yes') ?? false`)
}

// misspelt has a field that there is not.
const misspelt = `
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: quay-sign}
spec:
  entrypoint: main
  templates:
  - name: main
    container: {image: busybox, command: [echo, "all is well"], workDir: /tmp}
`

// A run says what its manifest was warned of, and is run again from its page, which then shows the new run.
func (b *browser) runsAgain(t *testing.T, s served) {
	s.submit(t, misspelt)
	b.want(t, s.url+"/runs/default/quay-sign", "SpecWarning", "workDir", "Succeeded", "Run again")
	press := func(words string) string {
		return `const e = [...document.querySelectorAll('button')].find((e) => e.textContent === '` + words + `'); e?.click(); return !!e`
	}
	b.until(t, "there is a button to run it again", press("Run again"))
	b.until(t, "it asks", press("Make a new run of it"))
	b.until(t, "the new run is shown", `return location.pathname.startsWith('/runs/default/quay-sign-') && document.querySelector('.head .state')?.textContent.includes('Succeeded')`)
}
