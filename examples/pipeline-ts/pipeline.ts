// A pipeline as a program: build for each platform, check what was built, say what came of it.
// `tiphys render` shows the manifest that it makes, `tiphys run --executor host` runs it here.
import { container, input, parameter, script, tag, workflow } from "tiphys";

const image = "busybox:1.37";

const build = script(
  image,
  `mkdir -p /tmp/out
echo "harbour ${parameter("version")} for ${input("platform")}" > /tmp/out/harbour
cksum < /tmp/out/harbour | cut -d ' ' -f 1 > /tmp/out/sum`,
  {
    name: "build",
    outputs: { parameters: { sum: "/tmp/out/sum" }, artifacts: { program: "/tmp/out/harbour" } },
    retry: 2,
  },
);
const check = container({
  name: "check",
  image,
  command: ["grep", "harbour", "/tmp/in/harbour"],
  inputs: { artifacts: { program: "/tmp/in/harbour" } },
});
const say = container({ name: "say", image, command: ["echo", input("text")] });
const bye = container({ name: "bye", image, command: ["echo", `the pipeline has ${tag("workflow.status")}`] });

const ci = workflow("harbour-", { parameters: { version: "1.0" }, onExit: bye });
const built = ["linux", "darwin"].map((platform) => ci.task(`build-${platform}`, build, { args: { platform } }));
const checked = built.map((b) => ci.task(`check-${b.name}`, check, { args: { program: b.artifact("program") } }));
ci.task("report", say, { args: { text: `sums: ${built.map((b) => b.output("sum")).join(" ")}` }, after: checked });

export default ci;
