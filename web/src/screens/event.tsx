import { call, get } from "../lib/api";
import { useLoad } from "../lib/load";
import { eventPath, go, mrPath, seg, seqPath, trailPath } from "../lib/router";
import type { Decision, Event, EventDetail } from "../lib/types";
import { Json } from "../ui/json";
import { Act, Ago, Facts, Head, Sha, Wait } from "../ui/parts";
import { Badge, Glyph } from "../ui/status";
import { Approvals } from "../ui/approvals";
import { Fired, titleOf, Verified } from "./events";

/** EventScreen shows one event, and for every sensor what it decided and why. */
export function EventScreen({ id }: { id: string }) {
  const detail = useLoad(id, (s) => get<EventDetail>(`/events/${seg(id)}`, {}, s), {
    tables: ["event", "decision", "firing"], only: (r) => r.owner === id || r.key === id,
  });
  return <Wait of={detail}>{(d) => (
    <>
      <Top event={d.event} />
      {d.decisions?.some((x) => x.outcome === "unapproved") && <Waiting id={id} />}
      <section><h2>Decisions <span class="count">{d.decisions?.length ?? 0}</span></h2>
        {d.decisions?.length ? d.decisions.map((x, i) => <Decided key={i} d={x} />) : <p class="quiet">No sensor listens to this source, so nothing was decided. A Sensor whose dependency names <code>{d.event.source}</code> and <code>{d.event.subject}</code> would.</p>}
      </section>
      {!!d.unheard?.length && <section><details><summary>Sensors that do not listen to it <span class="count">{d.unheard.length}</span></summary>{d.unheard.map((x, i) => <Decided key={i} d={x} />)}</details></section>}
      {!!d.firings?.length && <section><h2>Firings</h2><div class="list flat">{d.firings.map((f, i) => <Fired key={f.key ?? i} f={f} reload={detail.reload} />)}</div></section>}
      <section><h2>Data</h2>{d.event.data === undefined ? <p class="quiet">It has none.</p> : <div class="card"><Json value={d.event.data} /></div>}</section>
    </>
  )}</Wait>;
}

/** Waiting is the merge request of an event that nobody has approved; nothing once its commit is approved or has been replaced. */
function Waiting({ id }: { id: string }) {
  return <Approvals only={(a) => a.event === id} else={<div class="note">It waited for an approval. Its commit was approved since, or another one was pushed: the newest events say.</div>} />;
}

function Top({ event: e }: { event: Event }) {
  const g = e.git;
  const replay = async () => {
    const made = await call<Event & { event?: Event }>("POST", `/events/${seg(e.id)}/replay`);
    const id = made?.id ?? made?.event?.id;
    if (id) go(eventPath(id));
  };
  return (
    <>
      <Head crumbs={[["Events", "/events"]]} title={titleOf(e)} sub={<>
        <span class="faint">{e.type} · {e.namespace}/{e.source}/{e.subject}</span><Verified by={e.verified} type={e.type} /><Ago t={e.time} />
        <a href={e.seq ? seqPath(e.seq) : trailPath(`event/${e.id}`)}>trail</a>
      </>}><Act label="Replay" kind="primary" confirm="Replay: sensors may fire again" title="Make a new event with the same data" run={replay} /></Head>
      <Facts of={[
        ["Repository", g?.repo?.fullName],
        ["Branch", g?.branch || g?.tag],
        ["Commit", g?.sha && <a href={trailPath(`commit/${g.sha}`)}><Sha of={g.sha} /></a>],
        ["Merge request", g?.pr?.number && (e.type === "git" ? <a href={mrPath(g.repo?.fullName ?? "", g.pr.number)}>!{g.pr.number} {g.pr.title}</a> : `!${g.pr.number} ${g.pr.title ?? ""}`)],
        ["Sender", g?.sender?.name || g?.sender?.login || e.actor],
        ["Delivery", e.delivery && <code>{e.delivery}</code>],
        ["Repeats", e.replayOf && <a href={seqPath(e.replayOf)}>entry {e.replayOf}</a>],
      ]} />
    </>
  );
}

function Decided({ d }: { d: Decision }) {
  const waits = !!(d.satisfied?.length || d.missing?.length);
  return (
    <article class="card decision">
      <div class="cardtop"><Glyph state={d.outcome} size={18} /><b>{d.sensor}</b>{d.trigger && <span class="faint">→ {d.trigger}</span>}{d.dependency && <span class="ref">{d.dependency}</span>}<span class="grow" /><Badge state={d.outcome}>{d.outcome}{d.firing ? ` #${d.firing}` : ""}</Badge></div>
      {d.reason && <p class="reason">{d.reason}</p>}
      {waits && <div class="condition">
        {d.satisfied?.map((n) => <span class="cond t-good" key={n}><Glyph state="done" />{n}</span>)}
        {d.missing?.map((n) => <span class="cond t-wait" key={n}><Glyph state="waiting" />{n}<span class="faint"> missing</span></span>)}
      </div>}
    </article>
  );
}
