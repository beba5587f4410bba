import { useEffect, useMemo, useState } from "preact/hooks";
import { call, get } from "../lib/api";
import { useKeys } from "../lib/keys";
import { useLoad } from "../lib/load";
import { onRows } from "../lib/live";
import { place, seqPath, seg, setQuery, trailPath } from "../lib/router";
import type { Node, Run, RunDetail } from "../lib/types";
import { Act, Ago, Head, Took, Wait } from "../ui/parts";
import { State, toneOf } from "../ui/status";
import { From, phaseOf, Progress } from "../ui/things";
import { Graph } from "./graph";
import { landing, suspended, tree } from "./model";
import { Panel } from "./panel";
import { Timeline } from "./timeline";
import { Tree } from "./tree";

const views: [string, string][] = [["graph", "Graph"], ["timeline", "Timeline"], ["list", "List"]];

/** RunScreen shows one run: its shape, its course in time, its steps, and what the chosen step did. */
export function RunScreen({ namespace, name }: { namespace: string; name: string }) {
  const key = `${namespace}/${name}`;
  const known = useMemo(() => new Set<string>(), [key]);
  // Rows carry no children, so a new or removed node means reading the run again; a changed one is put in place.
  const detail = useLoad<RunDetail>(key, (s) => get<RunDetail>(`/runs/${seg(namespace)}/${seg(name)}`, {}, s), {
    tables: ["run", "node", "attempt"],
    only: (r) => (r.table === "run" ? r.key === key : r.owner === key && (r.deleted === true || r.table === "attempt" || !known.has(r.key.slice(key.length + 1)))),
  });
  useEffect(() => { for (const n of detail.data?.nodes ?? []) known.add(n.id); }, [detail.data]);
  useEffect(() => onRows(["node"], (rows) => {
    const changed = new Map(rows.filter((r) => r.owner === key && r.body).map((r) => [r.key.slice(key.length + 1), r.body as Node]));
    if (changed.size) detail.set((d) => ({ ...d, nodes: d.nodes?.map((n) => merge(n, changed.get(n.id))) }));
  }), [key]);
  return <Wait of={detail}>{(d) => <Shown detail={d} reload={detail.reload} />}</Wait>;
}

function merge(old: Node, row?: Node): Node {
  return row ? { ...row, children: old.children, position: row.position ?? old.position } : old;
}

function Shown({ detail, reload }: { detail: RunDetail; reload: () => void }) {
  const { run } = detail;
  const nodes = detail.nodes ?? [];
  const query = place.value.query;
  const view = query.get("view") ?? (window.innerWidth < 700 ? "list" : "graph");
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set());
  const landed = useMemo(() => landing(run, nodes), [run.uid, nodes.length > 0, run.phase === "Failed" || run.phase === "Error"]);
  const chosen = query.get("node") ?? landed;
  const select = (id: string) => setQuery({ node: id });
  const toggle = (id: string) => {
    const next = new Set(open);
    if (!next.delete(id)) next.add(id);
    setOpen(next);
  };
  const step = (by: number) => {
    const ids = tree(nodes, open).filter((l) => !l.item.members).map((l) => l.item.id);
    const at = ids.indexOf(chosen ?? "");
    const next = ids[Math.max(0, Math.min(ids.length - 1, at + by))];
    if (next) select(next);
  };
  useKeys({ j: () => step(1), k: () => step(-1), g: () => setQuery({ view: "graph" }), t: () => setQuery({ view: "timeline" }), l: () => setQuery({ view: "list" }) });
  const shared = { nodes, chosen, select, open, toggle };
  const node = nodes.find((n) => n.id === chosen);
  return (
    <div class={toneOf(run.phase) === "bad" ? "run bad" : "run"}>
      <RunHead run={nodes.some(suspended) ? { ...run, waitsFor: { node: "", name: "" } } : run} reload={reload} />
      <div class="split">
        <section class="views" aria-label="Steps">
          <div class="tabs" role="tablist">
            {views.map(([id, words]) => <button key={id} type="button" role="tab" aria-selected={view === id} class={view === id ? "on" : ""} onClick={() => setQuery({ view: id })}>{words}</button>)}
            <span class="grow" />
            {open.size > 0 && <button type="button" class="small" onClick={() => setOpen(new Set())}>Fold</button>}
          </div>
          <div class="view">
            {!nodes.length && <p class="quiet pad">{run.phase === "Pending" || !run.phase ? "The run has not begun." : "The run has no steps."}</p>}
            {nodes.length > 0 && view === "graph" && <Graph {...shared} />}
            {nodes.length > 0 && view === "timeline" && <Timeline {...shared} run={run} />}
            {nodes.length > 0 && view === "list" && <Tree {...shared} />}
          </div>
        </section>
        <Panel run={run} node={node} nodes={nodes} attempts={detail.attempts ?? []} select={select} reload={reload} />
      </div>
    </div>
  );
}

function RunHead({ run, reload }: { run: Run; reload: () => void }) {
  const phase = phaseOf(run);
  const bad = toneOf(phase) === "bad";
  // "child 'x' failed" says less than the failed step, on which the screen lands.
  const message = /^child '.*' failed$/.test(run.message ?? "") ? "" : run.message;
  return (
    <>
      <Head crumbs={[["Runs", "/runs"]]} title={<>{run.name}</>}
        sub={<>
          <State state={phase} /><Progress of={run.progress} state={phase} />
          <span><Took from={run.startedAt} to={run.finishedAt} /></span>
          <span class="faint">started <Ago t={run.startedAt ?? run.createdAt} /></span>
          <From labels={run.labels} event={run.event} links />
          {run.template && <a href={`/definitions/WorkflowTemplate/${seg(run.namespace)}/${seg(run.template.split("/").pop()!)}`}>{run.template}</a>}
          {!!run.event && <a href={seqPath(run.event)}>event</a>}
          <a href={trailPath(`run/${run.namespace}/${run.name}`)}>trail</a>
        </>}>
        <Verbs run={run} reload={reload} />
      </Head>
      {message && <div class={`note ${bad ? "t-bad" : "t-wait"}`}>{message}</div>}
      {(run.conditions ?? []).filter((c) => c.message && c.type !== "Completed").map((c) => <div class="note t-warn" key={c.type}><strong>{c.type}</strong> {c.message}</div>)}
    </>
  );
}

function Verbs({ run, reload }: { run: Run; reload: () => void }) {
  const put = (verb: string) => () => call("PUT", `/workflows/${seg(run.namespace)}/${seg(run.name)}/${verb}`, { namespace: run.namespace, name: run.name });
  const over = !!run.finishedAt && !run.finishedAt.startsWith("0001");
  if (over) return run.phase === "Succeeded" ? null : <Act label="Retry" kind="primary" title="Run what failed again; what succeeded stays" confirm="Run the failed steps again" run={put("retry")} done={reload} />;
  return (
    <>
      {run.suspended ? <Act label="Resume" kind="primary" run={put("resume")} done={reload} /> : <Act label="Suspend" run={put("suspend")} done={reload} />}
      <Act label="Stop" title="End it, and let its exit handlers run" confirm="Stop this run" run={put("stop")} done={reload} />
      <Act label="Terminate" kind="danger" title="End it at once, without exit handlers" confirm="Terminate this run" run={put("terminate")} done={reload} />
    </>
  );
}
