import { useState } from "preact/hooks";
import { call, get, url } from "../lib/api";
import { useLoad } from "../lib/load";
import { eventPath, place, seg, setQuery, trailPath } from "../lib/router";
import type { Attempt, InOut, Node, NodeDetail, Parameter, Run } from "../lib/types";
import { Act, Ago, Copy, Facts, Problem, Took } from "../ui/parts";
import { Glyph, State, toneOf } from "../ui/status";
import { gitOf, Who } from "../ui/things";
import { Log } from "./log";
import { hasLog, isBad, isLeaf, label, suspended } from "./model";

interface PanelProps { run: Run; node?: Node; nodes: Node[]; select: (id: string) => void; reload: () => void }

/** Panel tells about the chosen step: why it is as it is, its log, what went in and came out. Without one it tells about the run. */
export function Panel({ run, node, nodes, select, reload }: PanelProps) {
  if (!node) return <Summary run={run} nodes={nodes} select={select} />;
  return <Step key={node.id} run={run} short={node} reload={reload} />;
}

/** Step reads all about one step: the run's other steps are known without what went in and came out. */
function Step({ run, short, reload }: { run: Run; short: Node; reload: () => void }) {
  const of = `${run.namespace}/${run.name}/${short.id}`;
  const detail = useLoad<NodeDetail>(of, (s) => get<NodeDetail>(`/runs/${seg(run.namespace)}/${seg(run.name)}/nodes/${seg(short.id)}`, {}, s), {
    tables: [`node@${run.namespace}/${run.name}`], only: (r) => r.key === of,
  });
  const whole = detail.data?.node;
  const node: Node = whole ? { ...short, inputs: whole.inputs, outputs: whole.outputs, position: whole.position, hostNodeName: whole.hostNodeName, message: whole.message ?? short.message } : short;
  const mine = detail.data?.attempts ?? [];
  const tabs: [string, string][] = [
    ...(hasLog(node) && !skipped(node) ? [["log", "Log"] as [string, string]] : []),
    ["io", "Inputs and outputs"],
    ...(mine.length ? [["attempts", `Attempts ${mine.length + 1}`] as [string, string]] : []),
  ];
  const asked = place.value.query.get("tab") ?? "";
  const tab = tabs.some(([id]) => id === asked) ? asked : tabs[0]![0];
  const attempt = place.value.query.get("attempt") ?? undefined;
  return (
    <section class="panel" aria-label={`Step ${label(node)}`}>
      <Top run={run} node={node} />
      {suspended(node) && <Resume run={run} node={node} reload={reload} />}
      <div class="tabs" role="tablist">
        {tabs.map(([id, words]) => <button key={id} type="button" role="tab" aria-selected={tab === id} class={tab === id ? "on" : ""} onClick={() => setQuery({ tab: id, attempt: undefined })}>{words}</button>)}
      </div>
      {tab === "log" && <NodeLog key={`${node.id} ${attempt ?? ""} ${node.startedAt ?? ""}`} run={run} node={node} attempt={attempt} />}
      {tab === "io" && detail.error && <Problem error={detail.error} retry={detail.reload} />}
      {tab === "io" && whole && <div class="pad"><Values title="Inputs" of={node.inputs} run={run} node={node} /><Values title="Outputs" of={node.outputs} run={run} node={node} out /></div>}
      {tab === "attempts" && <Attempts of={mine} node={node} />}
    </section>
  );
}

/** Summary is what one wants to know of a run before any step of it: where it came from, what it gave, where the time went. */
function Summary({ run, nodes, select }: { run: Run; nodes: Node[]; select: (id: string) => void }) {
  const l = run.labels ?? {};
  const sensor = l["events.argoproj.io/sensor"], event = l["tiphys.dev/event"], git = gitOf(l);
  const rest = Object.entries(l).filter(([k]) => !/^(tiphys\.dev\/(repo|branch|tag|commit|sha|mr|event|firing)|events\.argoproj\.io\/)/.test(k));
  const slow = nodes.filter((n) => isLeaf(n) && n.startedAt && !skipped(n)).sort((a, b) => length(b) - length(a)).slice(0, 8);
  const out = [...(run.outputs?.parameters ?? [])];
  return (
    <section class="panel" aria-label="About the run"><div class="pad">
      <Facts of={[
        ["Started by", sensor ? <Who of={`sensor:${sensor}`} /> : run.event ? "an event" : "hand"],
        ["Event", event && <a href={eventPath(event)} title={event}>{event.slice(0, 12)}</a>],
        ["Repository", git.repo],
        ["Labels", rest.length > 0 && <span class="labels">{rest.map(([k, v]) => <a class="label" key={k} href={`/runs?label=${encodeURIComponent(`${k}=${v}`)}`}><span class="faint">{k}=</span>{v}</a>)}</span>],
      ]} />
      {out.length > 0 && <div class="values"><h3>Outputs</h3>{out.map((p) => <Value key={p.name} name={p.name} value={words(p.value)} />)}</div>}
      {slow.length > 0 && <><h3>Longest steps</h3><div class="list flat steps">{slow.map((n) => (
        <button type="button" class="leaf" key={n.id} onClick={() => select(n.id)}><Glyph state={n.phase} /><span class="leafname">{label(n)}</span><Took from={n.startedAt} to={n.finishedAt} /></button>
      ))}</div></>}
      <p class="quiet keys">Choose a step to see its log, inputs and outputs. <kbd>j</kbd> and <kbd>k</kbd> go through them; <kbd>g</kbd>, <kbd>t</kbd> and <kbd>l</kbd> show graph, timeline and list.</p>
    </div></section>
  );
}

const length = (n: Node) => (n.finishedAt ? Date.parse(n.finishedAt) : Date.now()) - Date.parse(n.startedAt ?? "");

/** Resume lets a suspended step go on, with the values that it asks for. */
function Resume({ run, node, reload }: { run: Run; node: Node; reload: () => void }) {
  const asked = (node.outputs?.parameters ?? []).filter((p) => p.value === undefined || p.value === null || p.value === "");
  const input = (name: string) => node.inputs?.parameters?.find((p) => p.name === name);
  const [values, setValues] = useState<Record<string, string>>({});
  const valueOf = (p: Parameter) => values[p.name] ?? words(input(p.name)?.value ?? input(p.name)?.default ?? p.default ?? "");
  const choices = (p: Parameter) => p.enum ?? input(p.name)?.enum;
  const set = (name: string) => (e: { currentTarget: { value: string } }) => setValues({ ...values, [name]: e.currentTarget.value });
  const resume = () => call("PUT", `/workflows/${seg(run.namespace)}/${seg(run.name)}/resume`, {
    namespace: run.namespace, name: run.name, nodeFieldSelector: `id=${node.id}`,
    outputParameters: asked.length ? JSON.stringify(Object.fromEntries(asked.map((p) => [p.name, valueOf(p)]))) : undefined,
  });
  return (
    <div class="resume">
      {asked.map((p) => (
        <label key={p.name}><span>{p.name}</span>{choices(p)?.length
          ? <select value={valueOf(p)} onChange={set(p.name)}>{choices(p)!.map((c) => <option key={c}>{c}</option>)}</select>
          : <input value={valueOf(p)} onInput={set(p.name)} />}</label>
      ))}
      <Act label="Resume" kind="primary" title="Let this step, and what comes after it, go on" run={resume} done={reload} />
    </div>
  );
}

const skipped = (n: Node) => n.phase === "Skipped" || n.phase === "Omitted";

function Top({ run, node }: { run: Run; node: Node }) {
  const words = [node.message, node.why, node.synchronizationStatus].filter((w, i, all) => w && all.indexOf(w) === i);
  const at = node.position;
  return (
    <div class="panelhead">
      <h2>{label(node)}</h2>
      <div class="sub">
        <State state={suspended(node) ? "Suspended" : node.phase || "Pending"} />
        <Took from={node.startedAt} to={node.finishedAt} />
        {node.startedAt && <span class="faint">started <Ago t={node.startedAt} /></span>}
        <span class="faint">{node.type}{node.templateName ? ` · ${node.templateName}` : ""}</span>
        {at?.file && at.file !== "workflow" && <code class="faint" title="Where it stands in its file">{at.file}:{at.line}</code>}
        {node.hostNodeName && <span class="faint wide">on {node.hostNodeName}</span>}
        <a href={trailPath(`run/${run.namespace}/${run.name}`)}>trail</a>
      </div>
      {words.map((w) => <div key={w} class={`note ${isBad(node) ? "t-bad" : suspended(node) ? "t-wait" : `t-${toneOf(node.phase) === "good" ? "none" : toneOf(node.phase)}`}`}>{w}</div>)}
    </div>
  );
}

function NodeLog({ run, node, attempt }: { run: Run; node: Node; attempt?: string }) {
  const [container, setContainer] = useState("main");
  const [stamps, setStamps] = useState(false);
  if (!node.startedAt && node.phase !== "Running") return <p class="quiet pad">The step has not begun, so it has no log yet.</p>;
  const path = `/runs/${seg(run.namespace)}/${seg(run.name)}/log/${seg(node.id)}`;
  const address = (q: Record<string, string | number | undefined>) => url(path, { container, attempt, timestamps: stamps ? 1 : undefined, ...q });
  const live = (node.phase === "Running" || node.phase === "Pending") && attempt === undefined;
  return (
    <Log key={container + stamps} address={address} live={live} atEnd={isBad(node) || live} failed={isBad(node)} name={`${run.name}-${label(node)}.log`}>
      <select aria-label="Container" value={container} onChange={(e) => setContainer(e.currentTarget.value)}><option>main</option><option>init</option><option>wait</option></select>
      <label class="check"><input type="checkbox" checked={stamps} onChange={(e) => setStamps(e.currentTarget.checked)} /> times</label>
    </Log>
  );
}

function Values({ title, of, run, node, out }: { title: string; of?: InOut; run: Run; node: Node; out?: boolean }) {
  const params = of?.parameters ?? [];
  const artifacts = of?.artifacts ?? [];
  const empty = !params.length && !artifacts.length && !of?.result && !of?.exitCode;
  return (
    <div class="values">
      <h3>{title}</h3>
      {empty && <p class="quiet">None.</p>}
      {params.map((p) => <Value key={p.name} name={p.name} value={words(p.value ?? p.default)} />)}
      {of?.result && <Value name="result" value={of.result} />}
      {of?.exitCode && <Facts of={[["exit code", of.exitCode]]} />}
      {artifacts.map((a) => (
        <div class="value" key={a.name}><b>{a.name}</b>
          {out ? <a href={url(`/runs/${seg(run.namespace)}/${seg(run.name)}/artifacts/${seg(node.id)}/${seg(a.name)}`)} download>download</a> : null}
          <code class="faint">{a.s3?.key ?? a.path ?? ""}</code>
        </div>
      ))}
    </div>
  );
}

const words = (v: unknown) => (typeof v === "string" ? v : v === undefined || v === null ? "" : JSON.stringify(v));

function Value({ name, value }: { name: string; value: string }) {
  const long = value.length > 120 || value.includes("\n");
  return <div class="value"><b>{name}</b>{long ? <pre>{value}</pre> : <code>{value === "" ? <span class="faint">empty</span> : value}</code>}{long && <Copy text={value} />}</div>;
}

function Attempts({ of, node }: { of: Attempt[]; node: Node }) {
  return (
    <div class="list flat">
      {of.map((a, i) => (
        <div class="row" key={i}>
          <State state={a.phase} /><span class="grow why">{a.message ?? a.reason}</span><Took from={a.startedAt} to={a.finishedAt} />
          {hasLog(node) && <button type="button" class="small" onClick={() => setQuery({ tab: "log", attempt: String(a.attempt ?? i) })}>Log</button>}
        </div>
      ))}
      <div class="row"><State state={node.phase} /><span class="grow">the newest</span><Took from={node.startedAt} to={node.finishedAt} />{hasLog(node) && <button type="button" class="small" onClick={() => setQuery({ tab: "log", attempt: undefined })}>Log</button>}</div>
    </div>
  );
}
