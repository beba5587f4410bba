import { useEffect, useState } from "preact/hooks";
import { call, get } from "../lib/api";
import { onRows } from "../lib/live";
import { useLoad } from "../lib/load";
import { usePaged } from "../lib/paged";
import { eventPath, place, runPath, seg } from "../lib/router";
import type { Decision, Event, Firing, Page } from "../lib/types";
import { Chips, Search } from "../ui/filter";
import { Act, Ago, Empty, Head, Sha, Wait } from "../ui/parts";
import { Badge, Glyph } from "../ui/status";

const kinds: [string, string][] = [["", "All"], ["git", "Git"], ["gitlab", "GitLab"], ["github", "GitHub"], ["gitea", "Gitea"], ["webhook", "Webhook"], ["calendar", "Calendar"]];

/** Events lists what happened outside, newest first. */
export function Events() {
  const q = place.value.query;
  const words = (q.get("q") ?? "").toLowerCase();
  const events = usePaged<Event & { decisions?: Decision[] }>("/events", { type: q.get("type") ?? undefined, repo: q.get("repo") ?? undefined, branch: q.get("branch") ?? undefined, limit: 50 }, ["event"]);
  const decided = useDecided();
  return (
    <>
      <Head title="Events" sub={<span class="faint">what happened, and what the sensors made of it</span>} />
      <div class="bar">
        <Chips name="type" values={kinds} label="Source" />
        <Search name="q" placeholder="Person, title, commit" first />
        <Search name="repo" placeholder="Repository" />
        <Search name="branch" placeholder="Branch" />
      </div>
      <Dead />
      <Wait of={events}>{(all) => {
        const list = words ? all.filter((e) => JSON.stringify({ ...e, data: 0 }).toLowerCase().includes(words)) : all;
        if (!list.length) return q.size
          ? <Empty title="No event is like that"><p><a href="/events">Show all events</a></p></Empty>
          : <Empty title="No event yet"><p>Push to a repository of the built-in remote (see <a href="/repos">Repositories</a>), or point a forge's webhook at <code>/webhooks/…</code> of this server.</p></Empty>;
        return <div class="list">{list.map((e) => <Row key={e.id} event={e} decisions={e.decisions ?? decided.get(e.id)} />)}</div>;
      }}</Wait>
      {events.more && <button type="button" class="more" onClick={events.more} disabled={events.busy}>Older events</button>}
    </>
  );
}

/** Dead lists firings that were given up, for somebody to send again. */
function Dead() {
  const dead = useLoad("dead", (s) => get<Page<Firing>>("/firings", { state: "dead", limit: 20 }, s).then((p) => p.items ?? []), { tables: ["firing"] });
  if (!dead.data?.length) return null;
  return <section class="dead"><h2>Could not be delivered <span class="count">{dead.data.length}</span></h2><div class="list flat">{dead.data.map((f, i) => <Fired key={f.key ?? i} f={f} reload={dead.reload} />)}</div></section>;
}

/** Fired is one firing of a trigger: what came of it, and another try where it failed. */
export function Fired({ f, reload }: { f: Firing; reload: () => void }) {
  const run = /^run\/([^/]+)\/(.+)$/.exec(f.result ?? f.subject ?? f.run ?? "");
  const state = f.state ?? (f.result ? "done" : f.error ? "failed" : "pending");
  return (
    <div class="row"><Glyph state={state} />
      <span class="c-name"><span><b>{f.sensor}</b> {f.trigger && <span class="faint">→ {f.trigger}</span>} {f.number !== undefined && `#${f.number}`}</span>{(f.error || f.message) && <span class="why t-bad word">{f.error || f.message}</span>}</span>
      {run && <a href={runPath(run[1]!, run[2]!)}>{run[2]}</a>}
      <Badge state={state} />
      {(state === "dead" || state === "failed") && f.key && <Act label="Send again" run={() => call("POST", `/firings/${seg(f.key!)}/redrive`)} done={reload} />}
    </div>
  );
}

// Decisions that are taken while the list is open arrive with the stream; the key of their rows is the event's id.
function useDecided(): Map<string, Decision[]> {
  const [decided, set] = useState(new Map<string, Decision[]>());
  useEffect(() => onRows(["decision"], (rows) => set((old) => {
    const next = new Map(old);
    for (const r of rows) if (r.body) next.set(r.key, (r.body as { decisions?: Decision[] }).decisions ?? []);
    return next;
  })), []);
  return decided;
}

function Row({ event: e, decisions }: { event: Event; decisions?: Decision[] }) {
  const g = e.git;
  return (
    <a class="row eventrow" data-row href={eventPath(e.id)}>
      <Source type={e.type} />
      <span class="c-name">
        <b>{titleOf(e)}</b>
        <span class="from">
          {g?.repo?.fullName && <span>{g.repo.fullName}</span>}
          {(g?.branch || g?.tag) && <span class="ref">{g.branch || g.tag}</span>}
          {g?.sha && <Sha of={g.sha} />}
          {g?.pr?.number && <span class="mrref">!{g.pr.number}</span>}
          {!g && <span class="faint">{e.source}/{e.subject}</span>}
          {decisions && <Summary of={decisions} />}
        </span>
      </span>
      <span class="c-who">{g?.sender?.login || g?.sender?.name || e.actor?.replace(/^user:/, "")}</span>
      <Verified by={e.verified} type={e.type} />
      <span class="c-when"><Ago t={e.time} /></span>
    </a>
  );
}

function Summary({ of }: { of: Decision[] }) {
  if (!of.length) return <span class="faint">no sensor listens</span>;
  // Who fired, waits or failed is named; of those that let it pass the number is enough.
  const quiet = of.filter((d) => d.outcome === "filtered" || d.outcome === "no-dependency");
  const rest = of.filter((d) => !quiet.includes(d)).sort((a, b) => Number(b.outcome === "fired") - Number(a.outcome === "fired"));
  return (
    <span class="labels">
      {rest.slice(0, 4).map((d, i) => <Badge key={i} state={d.outcome}>{d.sensor.replace(/^default\//, "")} {d.outcome}</Badge>)}
      {rest.length > 4 && <span class="faint">and {rest.length - 4} more</span>}
      {quiet.length > 0 && <span class="faint" title={quiet.map((d) => d.sensor).join(", ")}>{quiet.length} filtered</span>}
    </span>
  );
}

/** titleOf says in words what an event is. */
export function titleOf(e: Event): string {
  const g = e.git;
  if (!g?.kind) return `${e.type} ${e.subject ?? ""}`.trim();
  const kind = { pull_request: "Merge request", push: "Push", tag: "Tag", comment: "Comment", branch: "Branch" }[g.kind] ?? g.kind;
  const done: Record<string, string> = { create: "created", update: "", open: "opened", close: "closed", merge: "merged", sync: "pushed to", reopen: "reopened", delete: "deleted", remove: "removed", label: "labelled", edit: "edited", ready: "ready", draft: "made a draft" };
  const branch = g.kind === "push" && (g.branch || g.tag) ? ` to ${g.branch || g.tag}` : "";
  const action = g.kind === "comment" ? "" : g.kind === "push" ? (g.action === "create" ? ", a new branch" : g.action === "delete" ? ", deleted" : "") : ` ${done[g.action ?? ""] ?? g.action ?? ""}`.trimEnd();
  return `${kind}${branch}${action}${g.pr?.title ? `: ${g.pr.title}` : ""}`;
}

/** Source is where an event came from, as two letters. */
export function Source({ type }: { type: string }) {
  const two: Record<string, string> = { gitlab: "GL", github: "GH", gitea: "GT", git: "G", webhook: "WH", bitbucket: "BB" };
  return <span class="source" title={type} aria-label={type}>{two[type] ?? type.slice(0, 2).toUpperCase()}</span>;
}

/** Verified says whether the sender was proved, and how. */
export function Verified({ by, type }: { by?: string | boolean; type?: string }) {
  const ok = !!by && by !== "none";
  return <span class={`verified ${ok ? "t-good" : "t-warn"} word`} title={ok ? `proved by ${by}` : "nobody proved who sent it"}>{ok ? "verified" : type && type !== "git" ? "unauthenticated" : "unverified"}</span>;
}
