import { get } from "../lib/api";
import { attention, type Matter } from "../lib/attention";
import { useLoad } from "../lib/load";
import type { App, Firing, MR, Page, Quarantined, Run, Service } from "../lib/types";
import { Ago, Empty, Wait } from "../ui/parts";
import { useApprovals } from "../ui/approvals";
import { Glyph } from "../ui/status";
import { AppCard, MRRow, previewsBy, RunRow } from "../ui/things";

/** Home answers in one look: what needs somebody, what is on production, what runs, what failed last, what is about to come. */
export function Home() {
  const apps = useLoad("home-apps", (s) => get<Page<App>>("/apps", {}, s).then((p) => p.items ?? []), { tables: ["application"] });
  const running = useLoad("home-running", (s) => get<Page<Run>>("/runs", { state: "Running", limit: 20 }, s).then((p) => p.items ?? []), { tables: ["run"] });
  const latest = useLoad("home-latest", (s) => get<Page<Run>>("/runs", { limit: 6 }, s).then((p) => p.items ?? []), { tables: ["run"] });
  const failed = useLoad("home-failed", async (s) => {
    const [a, b] = await Promise.all([get<Page<Run>>("/runs", { state: "Failed", limit: 6 }, s), get<Page<Run>>("/runs", { state: "Error", limit: 6 }, s)]);
    return [...(a.items ?? []), ...(b.items ?? [])].sort((x, y) => y.createdAt.localeCompare(x.createdAt)).slice(0, 6);
  }, { tables: ["run"] });
  const mrs = useLoad("home-mrs", (s) => get<Page<MR>>("/mrs", { state: "open" }, s).then((p) => p.items ?? []), { tables: ["mr", "status"] });
  const dead = useLoad("home-dead", (s) => get<Page<Firing>>("/firings", { state: "dead", limit: 20 }, s).then((p) => p.items ?? []), { tables: ["firing"] });
  const services = useLoad("home-services", (s) => get<Page<Service>>("/services", {}, s).then((p) => p.items ?? []), { tables: ["application", "run", "definition"] });
  const out = useLoad("home-quarantine", (s) => get<Page<Quarantined>>("/quarantine", {}, s).then((p) => p.items ?? []), { tables: ["quarantine"] });
  const waiting = useApprovals();
  const preview = previewsBy(apps.data);
  const busy = running.data ?? [];
  return (
    <div class="home">
      <h1 class="unseen">Overview</h1>
      <Attention of={attention(apps.data ?? [], busy, mrs.data ?? [], dead.data ?? [], services.data ?? [], out.data ?? [], waiting.data ?? [])} />
      <section>
        <h2><a href="/apps">On production</a></h2>
        <Wait of={apps}>{(all) => {
          const live = all.filter((a) => !a.preview && !a.deleted);
          return live.length
            ? <div class="cards">{live.map((a) => <AppCard key={`${a.namespace}/${a.name}`} app={a} />)}</div>
            : <Empty title="Nothing is deployed yet"><p>Add an Application to the definitions, or apply one: <code>tiphys apply app.yaml</code>.</p></Empty>;
        }}</Wait>
      </section>
      <section>
        <h2><a href="/mrs">Open merge requests</a></h2>
        <Wait of={mrs}>{(open) => (open.length
          ? <div class="list">{open.slice(0, 8).map((m) => <MRRow key={`${m.repo}#${m.number}`} mr={m} preview={preview(m)} />)}</div>
          : <p class="quiet">None is open. Push a branch with <code>-o merge_request.create</code> to make one.</p>)}</Wait>
      </section>
      <div class="two">
        <section>
          <h2><a href={busy.length ? "/runs?state=Running" : "/runs"}>{busy.length ? "Running now" : "Latest runs"}</a></h2>
          <Wait of={busy.length ? running : latest}>{(runs) => (runs.length
            ? <div class="list tight">{runs.slice(0, 8).map((r) => <RunRow key={r.uid} run={r} />)}</div>
            : <p class="quiet">No run yet. Push to a repository that a sensor listens to, or start one: <code>tiphys submit hello.yaml</code>.</p>)}</Wait>
        </section>
        <section>
          <h2><a href="/runs?state=Failed">Failed last</a></h2>
          <Wait of={failed}>{(runs) => (runs.length ? <div class="list tight">{runs.map((r) => <RunRow key={r.uid} run={r} />)}</div> : <p class="quiet">No run has failed.</p>)}</Wait>
        </section>
      </div>
    </div>
  );
}

function Attention({ of }: { of: Matter[] }) {
  if (!of.length) return null;
  return (
    <section>
      <h2>Needs attention <span class="count">{of.length}</span></h2>
      <div class="list flat">{of.slice(0, 8).map((m) => (
        <a class="row" data-row key={m.href + m.what} href={m.href}><Glyph state={m.state} size={18} /><span class="c-name"><span><b>{m.what}</b></span><span class="why">{m.why}</span></span><span class="c-when"><Ago t={m.since} /></span></a>
      ))}</div>
    </section>
  );
}
