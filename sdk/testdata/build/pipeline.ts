import { configMap, container, input, parameter, script, secret, templateRef, volume, workflow } from "tiphys";

const cache = volume("cache", { hostPath: { path: "/var/cache/go" } });

const build = script("golang:1.26", "go build -o /tmp/app . && sha256sum /tmp/app > /tmp/digest", {
  env: { CGO_ENABLED: 0, TOKEN: secret("forge", "token"), LEVEL: configMap("settings", "level"), VERBOSE: true },
  mounts: [cache.at("/var/cache/build", { readOnly: false })],
  outputs: { parameters: { digest: "/tmp/digest" }, artifacts: { app: "/tmp/app" } },
  retry: { limit: 2, retryPolicy: "Always", backoff: { duration: "5s", factor: 2 } },
  labels: { room: "engine" },
  activeDeadlineSeconds: 600,
  imagePullPolicy: "IfNotPresent",
});
const check = container({
  image: "alpine:3.22",
  command: ["test", "-s", "/in/app"],
  inputs: { artifacts: { app: "/in/app" }, parameters: { suite: undefined } },
  workingDir: "/in",
  retry: 1,
});
const say = container({ image: "alpine:3.22", command: ["echo", input("text"), input("n")] });

const bye = script("alpine:3.22", "echo over", { name: "bye" });

const ci = workflow("build-", {
  namespace: "team",
  labels: { "app": "harbour" },
  annotations: { "tiphys.dev/executor": "host" },
  parameters: { version: "1.0", branch: undefined, level: { value: "info", enum: ["info", "debug"] } },
  onExit: bye,
  serviceAccountName: "builder",
});
const built = ci.task("build", build);
const suites = ["unit", "browser"].map((suite) => ci.task(`check-${suite}`, check, { args: { app: built.artifact("app"), suite } }));
const scanned = ci.task("scan", templateRef("scanners", "image"), { args: { digest: built.output("digest") }, after: suites });
ci.task("report", say, {
  args: { text: `${built.output("digest")} of ${parameter("version")} <&>`, n: 3 },
  after: [scanned.failed],
  when: `${parameter("branch")} == main`,
  onExit: bye,
  hooks: { failed: { expression: "tasks.report.status == 'Failed'", template: "bye" } },
});

export default ci;
