// Invented data for looking at the screens without a server.

const t0 = Date.now();
const at = (minutesAgo) => new Date(t0 - minutesAgo * 60_000).toISOString();
const sha = (n) => n.toString(16).padStart(2, "0").repeat(20);
const digest = (n) => `sha256:${n.toString(16).padStart(2, "0").repeat(32)}`;

const labels = (branch, n, mr) => ({ "tiphys.dev/repo": "harbour", "tiphys.dev/branch": branch, "tiphys.dev/commit": sha(n), ...(mr ? { "tiphys.dev/mr": String(mr) } : {}), team: "quay" });

function run(name, phase, progress, from, to, l, more = {}) {
  return { uid: name, namespace: "default", name, phase, progress, createdAt: at(from), startedAt: at(from), ...(to === undefined ? {} : { finishedAt: at(to) }), labels: l, template: "default/build", event: 411, ...more };
}

export const runs = [
  run("harbour-build-x7k2p", "Running", "9/24", 1.6, undefined, labels("feature/faster-cranes", 0xa4, 1)),
  run("harbour-build-m2v8c", "Failed", "5/8", 12, 9, labels("fix/manifest-dates", 0x3b, 2), { failed: "test-api", message: "child 'unit-tests(1:api)' failed" }),
  run("harbour-build-p0l3q", "Succeeded", "8/8", 55, 52, labels("main", 0x5c)),
  run("nightly-inventory-1732320000", "Running", "1/2", 40, undefined, { "tiphys.dev/cron": "nightly-inventory" }, { suspended: true, template: "default/inventory" }),
  run("harbour-build-c9d4z", "Error", "2/8", 190, 189, labels("main", 0x77), { message: "pull image registry.example/golang:1.25: no route to host" }),
  ...Array.from({ length: 30 }, (_, i) => run(`harbour-build-${(7919 * (i + 3)).toString(36)}`, i % 9 === 4 ? "Failed" : "Succeeded", "8/8", 300 + i * 47, 296 + i * 47, labels(i % 3 ? "main" : `topic/${i}`, 20 + i))),
];

const pod = (id, name, phase, from, to, boundaryID, children = [], more = {}) => ({ id, name, displayName: name, type: "Pod", templateName: name.replace(/\(.*/, ""), phase, boundaryID, children, ...(from === undefined ? { startedAt: null } : { startedAt: at(from) }), finishedAt: to === undefined ? null : at(to), ...more });

const failed = [
  { id: "harbour-build-m2v8c", name: "harbour-build-m2v8c", displayName: "harbour-build-m2v8c", type: "DAG", templateName: "main", phase: "Failed", startedAt: at(12), finishedAt: at(9), children: ["clone"], message: "child 'unit-tests(1:api)' failed" },
  pod("clone", "clone", "Succeeded", 12, 11.7, "harbour-build-m2v8c", ["lint", "tests"], { position: { file: "pipeline/build.yaml", line: 21, column: 9 }, outputs: { parameters: [{ name: "sha", value: sha(0x3b) }, { name: "changed", value: '["services/api/main.go","services/api/quay.go"]' }], artifacts: [{ name: "source", path: "/src", s3: { key: "runs/harbour-build-m2v8c/source.tgz" } }] } }),
  pod("lint", "lint", "Succeeded", 11.7, 11.3, "harbour-build-m2v8c", ["pack"]),
  { id: "tests", name: "unit-tests", displayName: "unit-tests", type: "TaskGroup", phase: "Failed", boundaryID: "harbour-build-m2v8c", startedAt: at(11.7), finishedAt: at(9.2), children: ["test-web", "test-api", "test-worker"] },
  pod("test-web", "unit-tests(0:web)", "Succeeded", 11.7, 10.9, "harbour-build-m2v8c", ["pack"]),
  pod("test-api", "unit-tests(1:api)", "Failed", 11.7, 9.2, "harbour-build-m2v8c", ["pack"], { message: "main: Error (exit code 1)", attempt: 1, position: { file: "pipeline/build.yaml", line: 48, column: 11 }, inputs: { parameters: [{ name: "service", value: "api" }], artifacts: [{ name: "source", path: "/src" }] }, outputs: { exitCode: "1" } }),
  pod("test-worker", "unit-tests(2:worker)", "Succeeded", 11.7, 10.2, "harbour-build-m2v8c", ["pack"]),
  pod("pack", "pack", "Omitted", undefined, undefined, "harbour-build-m2v8c", ["release"], { type: "Skipped", why: "omitted: depends 'lint && unit-tests.Succeeded' cannot be true any more" }),
  pod("release", "release", "Omitted", undefined, undefined, "harbour-build-m2v8c", [], { type: "Skipped", why: "omitted: depends 'pack' cannot be true any more" }),
];

const fan = Array.from({ length: 16 }, (_, i) => pod(`shard-${i}`, `browser-tests(${i}:shard-${i})`, i < 6 ? "Succeeded" : i === 6 ? "Failed" : i < 11 ? "Running" : "Pending", i < 11 ? 1.2 - i * 0.03 : undefined, i <= 6 ? 0.4 - i * 0.02 : undefined, "harbour-build-x7k2p", ["deploy"], i === 6 ? { message: "retrying: main: Error (exit code 2)" } : i >= 11 ? { why: "waiting: parallelism 5 of the template is used up" } : {}));
const running = [
  { id: "harbour-build-x7k2p", name: "harbour-build-x7k2p", displayName: "harbour-build-x7k2p", type: "DAG", templateName: "main", phase: "Running", startedAt: at(1.6), finishedAt: null, children: ["clone"] },
  pod("clone", "clone", "Succeeded", 1.6, 1.5, "harbour-build-x7k2p", ["build-api", "build-web", "lint", "docs"]),
  pod("lint", "lint", "Succeeded", 1.5, 1.3, "harbour-build-x7k2p", ["browser"]),
  pod("docs", "docs", "Skipped", undefined, undefined, "harbour-build-x7k2p", [], { type: "Skipped", why: "skipped: when 'docs in [api]' evaluated false" }),
  pod("build-api", "build-api", "Succeeded", 1.5, 1.22, "harbour-build-x7k2p", ["browser"]),
  pod("build-web", "build-web", "Succeeded", 1.5, 1.25, "harbour-build-x7k2p", ["browser"]),
  { id: "browser", name: "browser-tests", displayName: "browser-tests", type: "TaskGroup", phase: "Running", boundaryID: "harbour-build-x7k2p", startedAt: at(1.2), finishedAt: null, children: fan.map((f) => f.id) },
  ...fan,
  pod("deploy", "wait-for-preview", "Pending", undefined, undefined, "harbour-build-x7k2p", [], { why: "waiting: mutex deploy-preview is held by run harbour-build-k1 for 2m" }),
];

export function detail(name) {
  const r = runs.find((x) => x.name === name);
  if (!r) return undefined;
  const nodes = name.endsWith("m2v8c") ? failed : name.endsWith("x7k2p") ? running : failed.map((n) => ({ ...n, message: "", phase: "Succeeded", type: n.type === "Skipped" ? "Pod" : n.type, why: "", startedAt: n.startedAt ?? at(9), finishedAt: n.finishedAt ?? at(8.8) }));
  const attempts = name.endsWith("m2v8c") ? [{ node: "test-api", attempt: 0, phase: "Error", message: "the machine was restarted", startedAt: at(11.7), finishedAt: at(11) }] : [];
  return { run: r, nodes, attempts, seq: 500 };
}

export function log(node) {
  const out = [`\u001b[1m$ go test ./services/${node.replace("test-", "")}/...\u001b[0m`];
  for (let i = 0; i < 420; i++) out.push(i % 37 === 5 ? `\u001b[33mwarning:\u001b[0m berth ${i} has no crane assigned, using the default` : `ok  \tharbour/services/${node}/quay${i}\t${(0.01 + i * 0.003).toFixed(3)}s\t\u001b[36mcoverage: ${60 + (i % 40)}.${i % 10}%\u001b[0m`);
  if (node === "test-api") out.push("--- \u001b[31mFAIL\u001b[0m: TestManifestDates (0.02s)", "    manifest_test.go:41: \u001b[31merror: arrival 2026-11-23 sorted before 2026-02-30, want after\u001b[0m", "FAIL", "FAIL\tharbour/services/api\t0.031s", "exit status 1");
  return out;
}

const images = (n) => ({ api: `harbour/api@${digest(n)}`, web: `harbour/web@${digest(n + 1)}`, worker: `harbour/worker@${digest(n + 2)}` });
const app = (name, n, more) => ({ namespace: "default", name, project: "default", sync: "Synced", health: { status: "Healthy" }, revision: sha(n), commit: sha(n), images: images(n), since: at(n), urls: [`http://${name}.localhost:7470/`], ...more });
export const apps = [
  app("harbour-prod", 52, { release: { name: "harbour", number: 41 }, version: "harbour #41", urls: ["http://prod.harbour.localhost:7470/"] }),
  app("lighthouse", 130, { sync: "OutOfSync", version: "v2.3.0", health: { status: "Progressing", message: "Deployment lamp: 2 of 3 replicas are updated" } }),
  app("harbour-mr-1", 3, { preview: { repo: "harbour", mr: 1, title: "Move cranes faster" }, mr: 1, urls: ["http://mr-1.harbour.localhost:7470/"] }),
  app("harbour-mr-2", 8, { preview: { repo: "harbour", mr: 2, title: "Sort the manifest by date" }, mr: 2, urls: ["http://mr-2.harbour.localhost:7470/"], health: { status: "Degraded", message: "Pod api-6c9: the container exits with 1 again and again; its last line: panic: parse date" } }),
];
export function appDetail(name) {
  const a = apps.find((x) => x.name === name);
  if (!a) return undefined;
  const r = (group, kind, n, owner, info, health = "Healthy") => ({ group, kind, namespace: "harbour", name: n, owner, info, sync: owner ? undefined : "Synced", health: { status: health }, createdAt: at(52) });
  const resources = ["api", "web", "worker"].flatMap((s) => [r("apps", "Deployment", s, undefined, "2/2 ready"), r("apps", "ReplicaSet", `${s}-6c9`, `apps/Deployment:harbour/${s}`, "2 pods"), r("", "Pod", `${s}-6c9-1`, `apps/ReplicaSet:harbour/${s}-6c9`, "running"), r("", "Pod", `${s}-6c9-2`, `apps/ReplicaSet:harbour/${s}-6c9`, "running"), r("", "Service", s, undefined, "2 endpoints")]);
  const history = [41, 40, 39, 38].map((n, i) => ({ id: n, version: `harbour #${n}`, commit: sha(n), actor: i % 2 ? "user:ada" : "sensor:default/on-push", since: at(52 + i * 600), ...(i ? { until: at(52 + (i - 1) * 600) } : {}) }));
  return { app: a, resources: [...resources, r("networking.k8s.io", "Ingress", "harbour", undefined, a.urls[0])], history, problems: a.sync === "OutOfSync" ? [{ key: "apps/Deployment:lighthouse/lamp", path: "spec.template", message: "the image differs from what is defined" }] : [] };
}

const mr = (number, title, state, source, more = {}) => ({ repo: "harbour", number, title, state, source, target: "main", headSHA: sha(0xa0 + number), author: "ada", labels: [], createdAt: at(90 * number), updatedAt: at(9 * number), description: `${title}.\n\nThe old way waited for the tide; see https://example.org/issues/${number}. <b>Not bold</b>.`, ...more });
export const mrs = [mr(1, "Move cranes faster", "open", "feature/faster-cranes", { labels: ["deploy:api"] }), mr(2, "Sort the manifest by date", "open", "fix/manifest-dates", { labels: ["deploy:api", "deploy:worker"], conflicts: true }), mr(3, "Paint the lighthouse", "open", "paint", { draft: true }), mr(4, "Count the gulls", "merged", "gulls", { mergeSHA: sha(0x5c), mergedAt: at(55) }), mr(5, "Sink the pier", "closed", "sink")];
export const mrDetail = (n) => { const m = mrs.find((x) => x.number === n); return m && { mr: m, commits: [{ sha: m.headSHA, message: `${m.title}\n\nmore`, author: { name: "Ada" }, time: at(20) }], statuses: [{ context: "build", state: n === 2 ? "failure" : "success", description: "8 of 8 steps", url: "http://127.0.0.1:7471/runs/default/harbour-build-m2v8c" }, { context: "preview", state: "running", description: "rolling out", url: "javascript:alert(1)" }], comments: [{ author: "tiphys", body: "Preview: http://mr-1.harbour.localhost:7470/\n\n<img src=x onerror=alert(1)> is text.", updatedAt: at(3) }], diffstat: " services/api/main.go | 12 ++++++++----\n services/api/quay.go |  3 +++\n 2 files changed, 11 insertions(+), 4 deletions(-)", preview: apps.find((a) => a.mr === n) }; };

const ev = (id, type, ago, seq, git, more = {}) => ({ id, type, source: type, subject: "harbour", namespace: "default", time: at(ago), actor: "user:ada", verified: type === "webhook" ? "none" : type === "git" ? "local" : "token", seq, git, ...more });
export const events = [
  ev("e5", "git", 2, 411, { kind: "pull_request", action: "sync", repo: { fullName: "harbour" }, branch: "feature/faster-cranes", sha: sha(0xa4), pr: { number: 1, title: "Move cranes faster" }, sender: { login: "ada" } }, { decisions: [{ outcome: "fired" }, { outcome: "filtered" }] }),
  ev("e4", "git", 13, 380, { kind: "push", action: "update", repo: { fullName: "harbour" }, branch: "fix/manifest-dates", sha: sha(0x3b), sender: { login: "grace" } }, { decisions: [{ outcome: "filtered" }, { outcome: "filtered" }] }),
  ev("e3", "gitlab", 70, 300, { kind: "comment", action: "create", repo: { fullName: "group/beacon" }, pr: { number: 12, title: "Lamp" }, sender: { name: "Grace H." } }, { decisions: [{ outcome: "waiting" }] }),
  ev("e2", "webhook", 140, 200, undefined, { subject: "tide-table" }), ev("e1", "calendar", 1000, 100, undefined, { subject: "nightly", verified: "local" }),
];
export const eventDetail = (id) => { const e = events.find((x) => x.id === id); return e && { event: { ...e, data: { header: { "X-Gitlab-Event": ["Push Hook"] }, body: { ref: "refs/heads/main", commits: [{ id: sha(1), message: "Move cranes", url: "https://example.org/c/1" }], total: 1, ok: true, none: null } } }, decisions: [{ sensor: "default/on-merge-request", trigger: "build", dependency: "mr", outcome: "fired", reason: "data filter git.action: \"sync\" is one of [\"open\", \"sync\"]", firing: 12 }, { sensor: "default/on-push", trigger: "build", dependency: "push", outcome: "filtered", reason: "data filter git.kind: \"pull_request\" is not \"push\"" }, { sensor: "default/nightly-after-tide", trigger: "inventory", outcome: "waiting", reason: "conditions 'tide && schedule' need both", satisfied: ["tide"], missing: ["schedule"] }], firings: [{ key: "k1", sensor: "default/on-merge-request", trigger: "build", number: 12, state: "done", run: "run/default/harbour-build-x7k2p" }, { key: "k2", sensor: "default/notify", trigger: "chat", number: 3, state: "dead", error: "POST https://chat.example: 503 after 5 tries" }] }; };

const en = (seq, kind, subject, cause, ago, actor = "system", body = { note: "invented" }) => ({ seq, kind, subject, cause, time: at(ago), actor, body });
const up = [en(405, "push.intended", "push/harbour/9", 0, 13, "user:ada"), en(411, "event.received", "event/e5", 405, 12.9, "user:ada"), en(412, "sensor.decided", "sensor/default/on-merge-request", 411, 12.8, "sensor:default/on-merge-request"), en(413, "trigger.fired", "firing/k1", 412, 12.8, "sensor:default/on-merge-request"), en(414, "run.submitted", "run/default/harbour-build-x7k2p", 413, 12.7, "sensor:default/on-merge-request")];
const down = [[1, en(415, "node.created", "run/default/harbour-build-x7k2p", 414, 12.6)], [1, en(440, "node.finished", "run/default/harbour-build-x7k2p", 414, 11)], [2, en(441, "release.recorded", "release/default/harbour/42", 440, 10.9, "step:default/harbour-build-x7k2p/release")], [3, en(442, "sync.started", "application/default/harbour-mr-1", 441, 10.8)], [4, en(443, "object.applied", "object/apps/Deployment/harbour/api", 442, 10.7)], [5, en(444, "object.created", "object/Pod/harbour/api-6c9-1", 443, 10.6)], [4, en(450, "health.changed", "application/default/harbour-mr-1", 442, 10)], [1, en(460, "run.finished", "run/default/harbour-build-x7k2p", 414, 9)]];
export const trail = { up: [...up].reverse(), down: down.map(([depth, entry]) => ({ depth, entry })) };
export const entries = [...up, ...down.map((d) => d[1])];
export const head = { seq: 500, time: at(0), hash: sha(9) + "0".repeat(24), signature: "00", publicKey: "11" };
export const repos = [{ name: "harbour", defaultBranch: "main", cloneURL: "http://127.0.0.1:7470/git/harbour.git", head: sha(0x5c), updatedAt: at(13) }, { name: "lighthouse", defaultBranch: "main", cloneURL: "http://127.0.0.1:7470/git/lighthouse.git" }];
export const definitions = [["Sensor", "on-push"], ["Sensor", "on-merge-request"], ["WorkflowTemplate", "build"], ["Application", "harbour-prod"], ["ApplicationSet", "harbour-previews"], ["Secret", "registry"]].map(([kind, name], i) => ({ kind, namespace: "default", name, origin: `folder/${name}.yaml`, digest: digest(i), seq: i + 1 }));
export const cron = [{ namespace: "default", name: "nightly-inventory", schedules: ["0 3 * * *"], timezone: "Europe/Berlin", lastScheduled: at(1000), next: at(-440) }];
