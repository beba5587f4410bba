import { useState } from "preact/hooks";
import { call, get } from "../lib/api";
import { useLoad } from "../lib/load";
import { seg, trailPath } from "../lib/router";
import type { Commit, CommitStatus, MR, MRDetail } from "../lib/types";
import { Act, Ago, Head, Out, Prose, Sha, Wait } from "../ui/parts";
import { Badge, Glyph } from "../ui/status";
import { AppCard, mrState, Who } from "../ui/things";

/** MRScreen is the page of one merge request: what it changes, whether it is sound, and where to try it. */
export function MRScreen({ repo, number }: { repo: string; number: string }) {
  const path = `/mrs/${seg(repo)}/${number}`;
  const key = `${repo}#${number}`;
  const detail = useLoad(key, (s) => get<MRDetail>(path, {}, s), {
    tables: ["mr", "comment", "status", "application"],
    only: (r) => r.table === "application" || r.key === key || r.owner === key || (r.table === "status" && (r.owner ?? "").startsWith(repo + "@")),
  });
  return <Wait of={detail}>{(d) => (
    <>
      <Top mr={d.mr} path={path} reload={detail.reload} />
      <div class="detail">
        <div>
          {(d.mr.description || d.mr.body) && <section class="card"><Prose text={d.mr.description || d.mr.body} /></section>}
          <section><h2>Conversation</h2>{d.comments?.length ? d.comments.map((c, i) => (
            <article class="comment card" key={i}><div class="meta"><b><Who of={c.author || "somebody"} /></b> <Ago t={c.updatedAt ?? c.updated ?? c.createdAt} /></div><Prose text={c.body} /></article>
          )) : <p class="quiet">No comments. A pipeline can write one: <code>tiphys comment</code>.</p>}</section>
          <section><h2>Commits <span class="count">{d.commits?.length ?? 0}</span></h2><Commits of={d.commits ?? []} /></section>
          {d.diffstat && <section><h2>Changes</h2><Diffstat text={d.diffstat} /></section>}
        </div>
        <div>
          <section><h2>Preview</h2>{d.preview ? <AppCard app={d.preview} /> : <p class="quiet">{d.mr.state === "open" ? "None yet. An ApplicationSet with a pullRequest generator makes one when the branch is built; look at the labels that it asks for." : `It went when the merge request was ${d.mr.state}.`}</p>}</section>
          <section><h2>Checks</h2>{d.statuses?.length ? <Statuses of={d.statuses} /> : <p class="quiet">No statuses yet.</p>}</section>
        </div>
      </div>
    </>
  )}</Wait>;
}

function Top({ mr, path, reload }: { mr: MR; path: string; reload: () => void }) {
  const [method, setMethod] = useState("merge");
  const verb = (v: string, body?: unknown) => () => call("POST", `${path}/${v}`, body ?? {});
  const state = mrState(mr);
  return (
    <>
      <Head crumbs={[["Merge requests", "/mrs"], [mr.repo, `/mrs?state=all&repo=${encodeURIComponent(mr.repo)}`]]} title={<>{mr.title} <span class="faint">!{mr.number}</span></>} sub={<>
        <Badge state={state} />
        <span class="from"><span class="ref">{mr.source}</span><span class="faint">→</span><span class="ref">{mr.target}</span><a href={trailPath(`commit/${mr.mergeSHA || mr.headSHA}`)}><Sha of={mr.mergeSHA || mr.headSHA} /></a></span>
        <span class="faint">by <Who of={mr.author} /> <Ago t={mr.createdAt ?? mr.updatedAt} />{mr.mergedAt && <>, merged{mr.mergedBy && <> by <Who of={mr.mergedBy} /></>} <Ago t={mr.mergedAt} /></>}</span>
        {mr.labels?.map((l) => <span class="label" key={l}>{l}</span>)}
        <a href={trailPath(`mr/${mr.repo}/${mr.number}`)}>trail</a>
      </>}>
        {mr.state === "open" && <>
          {mr.draft ? <Act label="Mark as ready" kind="primary" run={verb("ready")} done={reload} /> : <>
            <select aria-label="How to merge" value={method} onChange={(e) => setMethod(e.currentTarget.value)}><option value="merge">merge commit</option><option value="squash">squash</option><option value="fast-forward">fast-forward</option></select>
            <Act label="Merge" kind="primary" confirm={`Merge into ${mr.target}`} disabled={mr.conflicts || mr.blocked} title={mr.conflicts ? "It has conflicts" : mr.blocked ? mr.reason : undefined} run={verb("merge", { method })} done={reload} />
            <Act label="Approve" title="Approve this commit" run={verb("approve", { sha: mr.headSHA })} done={reload} />
            <Act label="Draft" run={verb("draft")} done={reload} /></>}
          <Act label="Close" confirm="Close it" run={verb("close")} done={reload} />
        </>}
        {mr.state === "closed" && <Act label="Reopen" run={verb("reopen")} done={reload} />}
      </Head>
      {mr.blocked && mr.state === "open" && <div class="note t-warn"><strong>It cannot be merged: {mr.reason}.</strong>
        {mr.mayOverride && <Override run={(override) => call("POST", `${path}/merge`, { method, override })} done={reload} />}</div>}
      {!!mr.approvedBy?.length && mr.state === "open" && <p class="quiet">Approved by {mr.approvedBy.map((who, i) => <>{i > 0 && ", "}<Who of={who} key={who} /></>)}.</p>}
      {mr.override && <div class="note t-warn">It was merged in spite of the rules of {mr.target}: {mr.override}</div>}
      {mr.conflicts && mr.state === "open" && <div class="note t-warn"><strong>It has conflicts with {mr.target}.</strong> Bring {mr.target} into {mr.source}, solve them and push.</div>}
    </>
  );
}

/** Override merges in spite of the rules of the target, with a reason that is recorded. */
function Override({ run, done }: { run: (reason: string) => Promise<unknown>; done: () => void }) {
  const [reason, setReason] = useState("");
  return <p>
    <input aria-label="Why it is merged all the same" placeholder="Why it is merged all the same" value={reason} onInput={(e) => setReason(e.currentTarget.value)} />{" "}
    <Act label="Merge all the same" confirm="Merge, and record the reason" disabled={!reason.trim()} run={() => run(reason)} done={done} />
  </p>;
}

function Commits({ of }: { of: Commit[] }) {
  if (!of.length) return <p class="quiet">None.</p>;
  return <div class="list flat">{of.map((c, i) => (
    <div class="row" key={c.sha ?? i}>
      <a href={trailPath(`commit/${c.sha}`)}><Sha of={c.sha} /></a>
      <span class="c-name"><span>{(c.title ?? c.message ?? "").split("\n")[0]}</span></span>
      <span class="faint">{typeof c.author === "string" ? c.author : c.author?.name ?? c.author?.login}</span>
      {c.time && <Ago t={c.time} />}
    </div>
  ))}</div>;
}

function Statuses({ of }: { of: CommitStatus[] }) {
  return <div class="list flat wraps">{of.map((s) => {
    const name = <><b>{s.context}</b>{s.description && <span class="faint"> {s.description}</span>}</>;
    // Statuses of this server's own runs link to its own screens.
    const own = s.url && s.url.startsWith(window.location.origin + "/") ? s.url.slice(window.location.origin.length) : "";
    return <div class="row" key={s.context}><Glyph state={s.state} /><span class="c-name">{own ? <a href={own}>{name}</a> : <Out href={s.url}>{name}</Out>}</span></div>;
  })}</div>;
}

/** Diffstat lists the files with the lines that came and went. */
function Diffstat({ text }: { text: string }) {
  return <div class="diffstat">{text.trim().split("\n").map((l, i) => {
    const m = /^(.*) (\+\d+) (-\d+)$/.exec(l);
    return m ? <div key={i}><span class="grow">{m[1]}</span><span class="t-good word">{m[2]}</span><span class="t-bad word">{m[3]}</span></div> : <div key={i}>{l}</div>;
  })}</div>;
}

