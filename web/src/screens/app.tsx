import { useState } from "preact/hooks";
import { call, get, url } from "../lib/api";
import { useLoad } from "../lib/load";
import { mrPath, place, seg, setQuery, trailPath } from "../lib/router";
import type { App, AppDetail, Deployment, Resource } from "../lib/types";
import { Log } from "../run/log";
import { Act, Ago, Facts, Head, Out, Sha, Took, Wait } from "../ui/parts";
import { Badge, Glyph, State, toneOf } from "../ui/status";
import { versionOf } from "../ui/things";

/** AppScreen shows one application: its objects, what it ran before, and its pods' logs. */
export function AppScreen({ namespace, name }: { namespace: string; name: string }) {
  const key = `${namespace}/${name}`;
  const path = `/apps/${seg(namespace)}/${seg(name)}`;
  const detail = useLoad(key, (s) => get<AppDetail>(path, {}, s), {
    tables: ["application", "object", "deployment"], only: (r) => r.key === key || r.owner === key,
  });
  return <Wait of={detail}>{(d) => (
    <>
      <Top app={d.app} reload={detail.reload} path={path} />
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

function Top({ app, path, reload }: { app: App; path: string; reload: () => void }) {
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
      </Head>
      {app.health?.message && app.health.status !== "Healthy" && <div class={`note t-${toneOf(app.health.status)}`}>{app.health.message}</div>}
      <Facts of={[
        ["Address", app.urls?.length ? app.urls.map((u) => <div key={u}><Out href={u} /></div>) : ""],
        ["Commit", (app.commit || app.revision) && <a href={trailPath(`commit/${app.commit || app.revision}`)}><Sha of={app.commit || app.revision} /></a>],
        ["Merge request", app.preview?.mr && app.preview.repo ? <a href={mrPath(app.preview.repo, app.preview.mr)}>!{app.preview.mr} {app.preview.title}</a> : app.mr ? `!${app.mr}` : ""],
        ["Release", app.release?.number ? <a href={trailPath(`release/${app.namespace}/${app.release.name}/${app.release.number}`)}>{app.release.name} #{app.release.number}</a> : ""],
        ["Since", <Ago t={app.since} />],
        ["Images", Object.entries(app.images ?? {}).map(([n, i]) => <div key={n} class="image">{n} <a href={trailPath(`image/${i}`)}><Sha of={i} /></a>{app.sources?.[n] && <span class="faint"> from <Sha of={app.sources[n]} /></span>}</div>)],
      ]} />
    </>
  );
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
          {r.sync && r.sync !== "Synced" && <Badge state={r.sync} />}
          <span class="resend">{r.kind === "Pod" ? <><button type="button" class="small" onClick={() => setQuery({ pod: r.name })}>Log</button> <a class="small" href={trailPath(`pod/${r.namespace ?? ""}/${r.name}`)}>trail</a></> : <Ago t={r.createdAt} />}</span>
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
        const release = typeof d.release === "string" ? d.release : d.release?.number ? `${d.release.name}#${d.release.number}` : "";
        const id = d.id ?? d.seq;
        return (
          <div class="row hist" key={id ?? i}>
            <Glyph state={ended ? "" : "Healthy"} title={ended ? "past" : "runs now"} />
            <span class="c-name"><span><b>{d.version || release || "no version"}</b> <Sha of={d.commit} /> {!!d.mr && <span class="mrref">!{d.mr}</span>}</span>
              <span class="faint">{d.actor} <Ago t={d.since} />{ended && <>, ran <Took from={d.since} to={d.until} /></>}</span></span>
            {ended && id !== undefined && !d.deleted && <Act label="Roll back" confirm={`Roll back to ${d.version || release || "this"}`} run={() => call("POST", `${path}/rollback`, { id })} done={reload} />}
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
