import { useEffect, useState } from "preact/hooks";
import { onRows } from "../lib/live";
import { usePaged } from "../lib/paged";
import { eventPath, place } from "../lib/router";
import type { Decision, Event } from "../lib/types";
import { Chips, Search } from "../ui/filter";
import { Ago, Empty, Head, Sha, Wait } from "../ui/parts";
import { Badge } from "../ui/status";

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
        <Search name="q" placeholder="Find by subject, person, commit" first />
        <Search name="repo" placeholder="Repository" />
        <Search name="branch" placeholder="Branch" />
      </div>
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
        </span>
        {decisions && <Summary of={decisions} />}
      </span>
      <span class="c-who">{g?.sender?.login || g?.sender?.name || e.actor?.replace(/^user:/, "")}</span>
      <Verified by={e.verified} />
      <span class="c-when"><Ago t={e.time} /></span>
    </a>
  );
}

function Summary({ of }: { of: Decision[] }) {
  const by = new Map<string, number>();
  for (const d of of) by.set(d.outcome, (by.get(d.outcome) ?? 0) + 1);
  return <span class="labels">{[...by].map(([o, n]) => <Badge key={o} state={o}>{n > 1 ? `${n} × ${o}` : o}</Badge>)}</span>;
}

/** titleOf says in words what an event is. */
export function titleOf(e: Event): string {
  const g = e.git;
  if (!g?.kind) return `${e.type} ${e.subject ?? ""}`.trim();
  const kind = { pull_request: "merge request", push: "push", tag: "tag", comment: "comment", branch: "branch" }[g.kind] ?? g.kind;
  const title = g.pr?.title ? `: ${g.pr.title}` : "";
  return `${kind}${g.action ? ` ${g.action}` : ""}${title}`;
}

/** Source is where an event came from, as two letters. */
export function Source({ type }: { type: string }) {
  const two: Record<string, string> = { gitlab: "GL", github: "GH", gitea: "GT", git: "G", webhook: "WH", bitbucket: "BB" };
  return <span class="source" title={type} aria-label={type}>{two[type] ?? type.slice(0, 2).toUpperCase()}</span>;
}

/** Verified says whether the sender was proved, and how. */
export function Verified({ by }: { by?: string | boolean }) {
  const ok = !!by && by !== "none";
  return <span class={`verified ${ok ? "t-good" : "t-warn"} word`} title={ok ? `proved by ${by}` : "nobody proved who sent it"}>{ok ? "verified" : "unverified"}</span>;
}
