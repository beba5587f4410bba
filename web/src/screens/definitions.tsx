import { get } from "../lib/api";
import { useLoad } from "../lib/load";
import { place, seg, seqPath } from "../lib/router";
import type { Cron, Definition, Page } from "../lib/types";
import { Chips, Search } from "../ui/filter";
import { Json } from "../ui/json";
import { Ago, Empty, Head, Sha, Wait } from "../ui/parts";
import { Badge } from "../ui/status";

/** Definitions lists the manifests that are in force. */
export function Definitions() {
  const q = place.value.query;
  const words = (q.get("q") ?? "").toLowerCase();
  const kind = q.get("kind") ?? "";
  const all = useLoad("definitions", (s) => get<Page<Definition>>("/definitions", {}, s).then((p) => p.items ?? []), { tables: ["definition"] });
  const cron = useLoad("cron", (s) => get<Page<Cron>>("/cron", {}, s).then((p) => p.items ?? []), { tables: ["cron", "run"] });
  const kinds = [...new Set((all.data ?? []).map((d) => d.kind))].sort();
  return (
    <>
      <Head title="Definitions" sub={<span class="faint">the manifests in force</span>} />
      <div class="bar"><Chips name="kind" label="Kind" values={[["", "All"], ...kinds.map((k) => [k, k] as [string, string])]} /><Search name="q" placeholder="Find by name" first /></div>
      {!!cron.data?.length && !kind && <section><h2>Schedules</h2><div class="list">{cron.data.map((c) => (
        <div class="row" key={`${c.namespace}/${c.name}`}><span class="c-name"><b>{c.name}</b><code class="faint">{(c.schedules ?? []).join(" · ")} {c.timezone}</code></span>{c.suspended ? <Badge state="suspended" /> : <span class="faint">next <Ago t={c.next} /></span>}<span class="c-when faint">last <Ago t={c.lastScheduled} /></span></div>
      ))}</div></section>}
      <Wait of={all}>{(items) => {
        const list = items.filter((d) => (!kind || d.kind === kind) && `${d.kind}/${d.namespace}/${d.name}`.toLowerCase().includes(words));
        if (!list.length) return items.length ? <Empty title="No definition is like that"><p><a href="/definitions">Show all</a></p></Empty>
          : <Empty title="No definitions yet"><p>Put manifests in the folder that <code>tiphys serve --config</code> names, or apply them: <code>tiphys apply FILE</code>.</p></Empty>;
        return <div class="list">{list.map((d) => (
          <a class="row" data-row key={`${d.kind}/${d.namespace}/${d.name}`} href={`/definitions/${seg(d.kind)}/${seg(d.namespace)}/${seg(d.name)}`}>
            <span class="c-name"><b>{d.name}</b><span class="faint">{d.kind} in {d.namespace}</span></span>{[...new Set((d.conditions ?? []).map((c) => c.type))].map((type) => <span key={type} class="t-warn word" title={d.conditions?.find((c) => c.type === type)?.message}>{type.toLowerCase()}</span>)}<span class="faint clip origin">{d.origin}</span><Sha of={d.digest} />
          </a>))}</div>;
      }}</Wait>
    </>
  );
}

/** DefinitionScreen shows one manifest. */
export function DefinitionScreen({ kind, namespace, name }: { kind: string; namespace: string; name: string }) {
  const path = `/definitions/${seg(kind)}/${seg(namespace)}/${seg(name)}`;
  const one = useLoad(path, (s) => get<Definition>(path, {}, s), { tables: ["definition"] });
  return (
    <>
      <Head crumbs={[["Definitions", "/definitions"], [kind, `/definitions?kind=${encodeURIComponent(kind)}`]]} title={name}
        sub={<><span class="faint">{kind} in {namespace}</span>{one.data?.origin && <span class="faint">from {one.data.origin}</span>}{one.data?.seq ? <a href={seqPath(one.data.seq)}>trail</a> : null}</>} />
      <Wait of={one}>{(d) => <>{d.conditions?.map((c, i) => <p key={i} class="note t-warn"><strong>{c.type}. </strong>{[c.message, c.hint].filter(Boolean).join("; ")}</p>)}<div class="card"><Json value={d.object ?? d} open={4} /></div></>}</Wait>
    </>
  );
}
