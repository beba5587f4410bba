// A pipeline as a program: two tests side by side, then a report of both. `tiphys render` shows the manifest that it makes.
import { container, script, workflow } from "tiphys";

const say = container({ image: "busybox:1.37", command: ["echo", "{{inputs.parameters.text}}"] });
const suites = ["unit", "end-to-end"];

const ci = workflow("ci-", { parameters: { greeting: "hello" } });
ci.step("greet", say, { args: { text: "{{workflow.parameters.greeting}}" } });
for (const suite of suites) {
  ci.step(suite, script("busybox:1.37", `echo "testing ${suite} & more"`), { after: "greet" });
}
ci.step("report", say, { after: suites, args: { text: `${suites.length} suites passed` } });

export default ci;
