import { get } from "../lib/api";
import { useLoad } from "../lib/load";
import type { App, MR, Page, Run } from "../lib/types";
import { Empty, Wait } from "../ui/parts";
import { AppCard, MRRow, previewsBy, RunRow } from "../ui/things";

/** Home answers in one look: what is on production, what runs, what failed last, what is about to come. */
export function Home() {
  const apps = useLoad("home-apps", (s) => get<Page<App>>("/apps", {}, s).then((p) => p.items ?? []), { tables: ["application"] });
  const running = useLoad("home-running", (s) => get<Page<Run>>("/runs", { state: "Running", limit: 8 }, s).then((p) => p.items ?? []), { tables: ["run"] });
  const failed = useLoad("home-failed", async (s) => {
    const [a, b] = await Promise.all([get<Page<Run>>("/runs", { state: "Failed", limit: 4 }, s), get<Page<Run>>("/runs", { state: "Error", limit: 4 }, s)]);
    return [...(a.items ?? []), ...(b.items ?? [])].sort((x, y) => y.createdAt.localeCompare(x.createdAt)).slice(0, 4);
  }, { tables: ["run"] });
  const mrs = useLoad("home-mrs", (s) => get<Page<MR>>("/mrs", { state: "open" }, s).then((p) => p.items ?? []), { tables: ["mr", "status"] });
  const preview = previewsBy(apps.data);
  return (
    <div class="home">
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
          <h2><a href="/runs?state=Running">Running now</a></h2>
          <Wait of={running}>{(runs) => (runs.length ? <div class="list tight">{runs.map((r) => <RunRow key={r.uid} run={r} />)}</div> : <p class="quiet">Nothing is running. The <a href="/runs">last runs</a> are in the list.</p>)}</Wait>
        </section>
        <section>
          <h2><a href="/runs?state=Failed">Failed last</a></h2>
          <Wait of={failed}>{(runs) => (runs.length ? <div class="list tight">{runs.map((r) => <RunRow key={r.uid} run={r} />)}</div> : <p class="quiet">No run has failed.</p>)}</Wait>
        </section>
      </div>
    </div>
  );
}
