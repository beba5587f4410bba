import { useMemo, useState } from "preact/hooks";
import { call } from "../lib/api";
import { useKeys } from "../lib/keys";
import { go, place, seqPath, seg, setQuery, trailPath } from "../lib/router";
import type { Run } from "../lib/types";
import { Act, Ago, Head, Took, Wait } from "../ui/parts";
import { State, toneOf } from "../ui/status";
import { From, phaseOf, Progress } from "../ui/things";
import { Graph } from "./graph";
import { useRun, type Seen } from "./live";
import { landing, suspended, tree } from "./model";
import { Panel } from "./panel";
import { Timeline } from "./timeline";
import { Tree } from "./tree";

const views: [string, string][] = [["graph", "Graph"], ["timeline", "Timeline"], ["list", "List"]];

/** openable is how many members of a stack a graph shows; more are opened in the list. */
const openable = 60;

/** RunScreen shows one run: its shape, its course in time, its steps, and what the chosen step did. */
export function RunScreen({ namespace, name }: { namespace: string; name: string }) {
  const detail = useRun(namespace, name);
  return <Wait of={detail}>{(d) => <Shown detail={d} reload={detail.reload} />}</Wait>;
}

function Shown({ detail, reload }: { detail: Seen; reload: () => void }) {
  const { run, nodes, complete } = detail;
  const query = place.value.query;
  const view = query.get("view") ?? (window.innerWidth < 700 ? "list" : "graph");
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set());
  const landed = useMemo(() => landing(run, nodes), [run.uid, nodes.length > 0, complete, run.phase === "Failed" || run.phase === "Error"]);
  const chosen = query.get("node") ?? landed;
  const select = (id: string) => setQuery({ node: id });
  const toggle = (id: string, members: number) => {
    const next = new Set(open);
    if (!next.delete(id)) next.add(id);
    setOpen(next);
    if (view === "graph" && members > openable) setQuery({ view: "list" });
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
            {!complete && <span class="faint reading" role="status">reading the steps: {nodes.length} so far</span>}
            {open.size > 0 && <button type="button" class="small" onClick={() => setOpen(new Set())}>Fold</button>}
          </div>
          <div class="view">
            {!nodes.length && <p class="quiet pad">{run.phase === "Pending" || !run.phase ? "The run has not begun." : "The run has no steps."}</p>}
            {nodes.length > 0 && view === "graph" && <Graph {...shared} shape={detail.shape} />}
            {nodes.length > 0 && view === "timeline" && <Timeline {...shared} run={run} />}
            {nodes.length > 0 && view === "list" && <Tree {...shared} />}
          </div>
        </section>
        <Panel run={run} node={node} nodes={nodes} select={select} reload={reload} />
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
      {(run.conditions ?? []).filter((c) => c.message && c.type !== "Completed").map((c, i) => <div class="note t-warn" key={i}><strong>{c.type}</strong> {c.message}</div>)}
    </>
  );
}

function Verbs({ run, reload }: { run: Run; reload: () => void }) {
  const put = (verb: string) => () => call("PUT", `/workflows/${seg(run.namespace)}/${seg(run.name)}/${verb}`, { namespace: run.namespace, name: run.name });
  const over = !!run.finishedAt && !run.finishedAt.startsWith("0001");
  const again = async () => {
    const made = await call<{ metadata: { namespace: string; name: string } }>("PUT", `/workflows/${seg(run.namespace)}/${seg(run.name)}/resubmit`, {});
    if (made) go(`/runs/${seg(made.metadata.namespace)}/${seg(made.metadata.name)}`);
  };
  if (over) return (
    <>
      {run.phase !== "Succeeded" && <Act label="Retry" kind="primary" title="Run what failed again; what succeeded stays" confirm="Run the failed steps again" run={put("retry")} done={reload} />}
      <Act label="Run again" title="Make a new run of the same manifest and arguments" confirm="Make a new run of it" run={again} />
    </>
  );
  return (
    <>
      {run.suspended ? <Act label="Resume" kind="primary" run={put("resume")} done={reload} /> : <Act label="Suspend" run={put("suspend")} done={reload} />}
      <Act label="Stop" title="End it, and let its exit handlers run" confirm="Stop this run" run={put("stop")} done={reload} />
      <Act label="Terminate" kind="danger" title="End it at once, without exit handlers" confirm="Terminate this run" run={put("terminate")} done={reload} />
    </>
  );
}
