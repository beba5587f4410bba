import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { call, get, url } from "../lib/api";
import { useLoad } from "../lib/load";
import { place, seg, seqPath, setQuery, trailPath } from "../lib/router";
import type { App, AppDetail, Deployment, Operation, Resource } from "../lib/types";
import { Log } from "../run/log";
import { Act, Ago, Facts, Head, Out, Sha, Took, Wait } from "../ui/parts";
import { Badge, Glyph, State, toneOf } from "../ui/status";
import { MRRef, versionOf, Who } from "../ui/things";

/** AppScreen shows one application: its objects, what it ran before, and its pods' logs. */
export function AppScreen({ namespace, name }: { namespace: string; name: string }) {
  const key = `${namespace}/${name}`;
  const path = `/apps/${seg(namespace)}/${seg(name)}`;
  const detail = useLoad(key, (s) => get<AppDetail>(path, {}, s), {
    tables: ["application", "object", "deployment"], only: (r) => r.key === key || r.owner === key,
  });
  return <Wait of={detail}>{(d) => (
    <>
      <Top app={d.app} prunes={(d.resources ?? []).filter((r) => r.prune)} reload={detail.reload} path={path}>
        <Culprits of={d.resources ?? []} />
        {d.operation && <LastSync of={d.operation} />}
      </Top>
      {(d.problems ?? []).map((p, i) => (typeof p === "string"
        ? <div class="note t-warn" key={i}>{p}</div>
        : <div class={`note ${p.fatal ? "t-bad" : "t-warn"}`} key={i}><strong>{[p.key, p.path].filter(Boolean).join(" ")}</strong> {p.message}</div>))}
      <div class="detail">
        <section><h2>Resources <span class="count">{d.resources?.length ?? 0}</span></h2><Resources of={d.resources ?? []} /></section>
        <section><h2>History</h2><History of={d.history ?? []} path={path} reload={detail.reload} /></section>
      </div>
      <PodLog path={path} resources={d.resources ?? []} />
    </>
  )}</Wait>;
}

/** Culprits are the pods that keep an application from being healthy: what they wait for, and the way to their logs. */
function Culprits({ of }: { of: Resource[] }) {
  const bad = of.filter((r) => r.kind === "Pod" && r.health?.status === "Degraded");
  if (!bad.length) return null;
  return (
    <div class="note t-bad">
      {bad.slice(0, 5).map((r) => <div key={r.name}><strong>Pod {r.name}</strong> {r.info}{r.health?.message && <>: {r.health.message}</>} <button type="button" class="link" onClick={() => showLog(r.name)}>Log</button></div>)}
      {bad.length > 5 && <div>and {bad.length - 5} more pods</div>}
    </div>
  );
}

function showLog(pod: string) {
  setQuery({ pod });
  window.setTimeout(() => document.querySelector(".podlog")?.scrollIntoView({ behavior: "smooth" }), 50);
}

/** LastSync says what the last attempt to deploy came to, unless it simply succeeded. */
function LastSync({ of: o }: { of: Operation }) {
  if (!o.phase || o.phase === "Succeeded") return null;
  const wrong = Object.entries(o.results ?? {}).filter(([, r]) => r.message && r.phase !== "Succeeded");
  return (
    <div class={`note t-${toneOf(o.phase)}`}><strong>{o.phase === "Running" ? "Being deployed now" : `The last sync ${o.phase === "Failed" ? "failed" : "ended with an error"}`}</strong> {o.message}
      {wrong.slice(0, 8).map(([what, r]) => <div key={what}>{what}: {r.message}</div>)}</div>
  );
}

function Top({ app, prunes, path, reload, children }: { app: App; prunes: Resource[]; path: string; reload: () => void; children: ComponentChildren }) {
  const v = versionOf(app);
  return (
    <>
      <Head crumbs={[["Applications", "/apps"]]} title={app.name} sub={<>
        <State state={app.health?.status} title={app.health?.message} />
        <Badge state={app.sync} />
        {app.deleted && <Badge tone="warn">deleted</Badge>}
        {v && <b>{v}</b>}
        <a href={trailPath(`app/${app.namespace}/${app.name}`)}>trail</a>
      </>}>
        <Act label="Refresh" title="Look again at what should be and what is" run={() => call("POST", `${path}/refresh`)} done={reload} />
        <Act label="Sync" kind="primary" title="Make it what the definitions say" run={() => call("POST", `${path}/sync`)} done={reload} />
        {prunes.length > 0 && <Act label="Sync and prune" kind="danger" title="Delete what the definitions have no more, too" confirm={pruneWords(prunes)}
          run={() => call("POST", `${path}/sync`, { prune: true, confirmed: true })} done={reload} />}
      </Head>
      {app.health?.message && app.health.status !== "Healthy" && <div class={`note t-${toneOf(app.health.status)}`}>{app.health.message}</div>}
      {children}
      <Facts of={[
        ["Address", app.urls?.length ? app.urls.map((u) => <div key={u}><Out href={u} /></div>) : ""],
        ["Commit", (app.commit || app.revision) && <a href={trailPath(`commit/${app.commit || app.revision}`)}><Sha of={app.commit || app.revision} /></a>],
        ["Merge request", app.mr ? <MRRef repo={app.preview?.repo} number={app.mr}>{app.preview?.title}</MRRef> : ""],
        ["Release", app.releases?.length ? app.releases.map((r) => <div key={r.seq}><a href={seqPath(r.seq)}>{r.name} #{r.number}</a>{app.releases!.length > 1 && <span class="faint"> of {r.repo}</span>}</div>) : app.release?.number ? <a href={trailPath(`release/${app.namespace}/${app.release.name}/${app.release.number}`)}>{app.release.name} #{app.release.number}</a> : ""],
        ["Deployed", <><Ago t={app.since} />{app.actor && <> by <Who of={app.actor} /></>}</>],
        ["Images", Object.entries(app.images ?? {}).map(([n, i]) => <div key={n} class="image">{n} <a href={trailPath(`image/${i}`)}><Sha of={i} /></a>{app.sources?.[n] && <span class="faint"> from <Sha of={app.sources[n]} /></span>}</div>)],
      ]} />
    </>
  );
}

/** pruneWords say what a sync deletes, for whoever is asked. */
function pruneWords(of: Resource[]): string {
  const names = of.slice(0, 3).map((r) => `${r.kind} ${r.name}`).join(", ");
  return `Delete ${names}${of.length > 3 ? ` and ${of.length - 3} more` : ""}`;
}

const idOf = (r: Resource) => `${r.group ?? ""}/${r.kind}:${r.namespace ?? ""}/${r.name}`;

function Resources({ of }: { of: Resource[] }) {
  const ids = new Set(of.map(idOf));
  const rows: { r: Resource; depth: number }[] = [];
  const walk = (owner: string, depth: number) => {
    for (const r of of) {
      const up = r.owner && ids.has(r.owner) ? r.owner : "";
      if (up === owner && depth < 12 && !(depth > 0 && idOf(r) === owner)) { rows.push({ r, depth }); walk(idOf(r), depth + 1); }
    }
  };
  walk("", 0);
  if (!rows.length) return <p class="quiet">No objects yet. They appear with the first sync.</p>;
  return (
    <div class="list flat">
      {rows.map(({ r, depth }) => (
        <div class="row res" key={idOf(r)} style={{ paddingLeft: `${12 + depth * 20}px` }}>
          <Glyph state={r.health?.status} title={r.health?.message || r.health?.status} />
          <span class="c-name"><span><span class="faint">{r.kind}</span> {r.name}</span>{r.health?.message && r.health.status !== "Healthy" && <span class="why">{r.health.message}</span>}</span>
          <span class="faint">{r.info}</span>
          {r.prune ? <Badge tone="warn">to be pruned</Badge> : r.sync && r.sync !== "Synced" && <Badge state={r.sync} />}
          <span class="resend">{r.kind === "Pod" ? <><button type="button" class="small" aria-label={`Log of pod ${r.name}`} onClick={() => showLog(r.name)}>Log</button> <a class="small" href={trailPath(`pod/${r.namespace ?? ""}/${r.name}`)}>trail</a></> : <Ago t={r.createdAt} />}</span>
        </div>
      ))}
    </div>
  );
}

function History({ of, path, reload }: { of: Deployment[]; path: string; reload: () => void }) {
  if (!of.length) return <p class="quiet">It has run nothing yet.</p>;
  return (
    <div class="list flat">
      {of.map((d, i) => {
        const ended = !!d.until && !d.until.startsWith("0001");
        const whole = typeof d.release === "string" ? d.release : d.release?.number ? `${d.release.name}#${d.release.number}` : "";
        const release = whole.split(" on ")[0]!; // a preview names its own build first: "harbour#8 on harbour#7"
        const to = whole || d.commit;
        return (
          <div class="row hist" key={d.seq ?? i}>
            <Glyph state={ended ? "" : "Healthy"} title={ended ? "past" : "runs now"} />
            <span class="c-name"><span><b>{release.replaceAll("#", " #") || d.version || "no version"}</b> <Sha of={d.commit} /> <MRRef number={d.mr} /></span>
              <span class="faint"><Ago t={d.since} /> by <Who of={d.actor} />{ended && <>, ran <Took from={d.since} to={d.until} /></>}</span></span>
            {ended && to && !d.deleted && <Act label="Roll back" title="Deploy it again, and stay there" confirm={`Roll back to ${release || d.commit?.slice(0, 8)}`} run={() => call("POST", `${path}/rollback`, { to })} done={reload} />}
          </div>
        );
      })}
    </div>
  );
}

function PodLog({ path, resources }: { path: string; resources: Resource[] }) {
  const pods = resources.filter((r) => r.kind === "Pod");
  const pod = place.value.query.get("pod") ?? "";
  const [more, setMore] = useState(1000);
  if (!pods.length) return null;
  return (
    <section class="podlog">
      <h2>Pod logs</h2>
      <div class="chips" role="group" aria-label="Pod">{pods.map((p) => <button type="button" key={p.name} class={p.name === pod ? "chip on" : "chip"} aria-pressed={p.name === pod} onClick={() => setQuery({ pod: p.name === pod ? undefined : p.name })}>{p.name}</button>)}</div>
      {pod && <Log key={pod + more} address={(q) => url(`${path}/logs/${seg(pod)}`, { tail: more, follow: q.follow })} live atEnd name={`${pod}.log`}>
        <button type="button" class="small" onClick={() => setMore(more * 10)}>Older lines</button>
      </Log>}
    </section>
  );
}
