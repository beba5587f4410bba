import type { ComponentChildren } from "preact";
import { call, get } from "../lib/api";
import { useLoad } from "../lib/load";
import { eventPath, go, seg } from "../lib/router";
import type { Approval, Event, Page } from "../lib/types";
import { Act, Sha } from "./parts";

/** useApprovals are the merge requests whose commits wait for an approval. */
export function useApprovals() {
  return useLoad("approvals", (s) => get<Page<Approval>>("/approvals", { state: "waiting" }, s).then((p) => p.items ?? []), { tables: ["approval"] });
}

/** Approvals says what waits, and lets somebody who may approve it: all, or those that are asked for. */
export function Approvals({ only, else: none }: { only?: (a: Approval) => boolean; else?: ComponentChildren }) {
  const all = useApprovals();
  const list = (all.data ?? []).filter(only ?? (() => true));
  if (all.data && !list.length) return <>{none}</>;
  return <>{list.map((a) => <One key={a.key} of={a} />)}</>;
}

function One({ of: a }: { of: Approval }) {
  const approve = async () => {
    const made = await call<Event>("POST", `/events/${seg(a.event)}/approve`);
    if (made?.id) go(eventPath(made.id));
  };
  return <div class="note t-warn"><strong>Nothing runs yet for {a.repo ? <>{a.repo} !{a.number}</> : a.key}{a.title && <>, {a.title}</>}.</strong>{" "}
    Its author, {a.author || "somebody"}, may not write to the repository. Look first at what commit <a href={eventPath(a.event)}><Sha of={a.sha} /></a> changes.{" "}
    <Act label="Approve this commit" confirm="Let it run" run={approve} /></div>;
}
