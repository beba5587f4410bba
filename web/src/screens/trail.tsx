import { useState } from "preact/hooks";
import { call, Failure, get } from "../lib/api";
import { full } from "../lib/format";
import { useLoad } from "../lib/load";
import { appPath, eventPath, go, mrPath, place, runPath, seqPath, trailPath } from "../lib/router";
import type { Entry, Head as LedgerHead, Trail, VerifyReport, VerifyState } from "../lib/types";
import { Json } from "../ui/json";
import { Ago, Empty, Head, Problem, Sha, Wait } from "../ui/parts";
import { Badge, type Tone } from "../ui/status";
import { Who } from "../ui/things";

/** TrailScreen shows the chain of anything: up to what caused it, down to what it led to. */
export function TrailScreen() {
  const q = place.value.query;
  const of = q.get("of") ?? "", seq = q.get("seq") ?? "";
  return (
    <>
      <Head title="Trail" sub={<span class="faint">{of || (seq ? `entry ${seq}` : "what led to what, from the ledger")}</span>}><Verify /></Head>
      <Ask now={of || seq} />
      {of || seq ? <Chain key={of + seq} of={of} seq={seq} /> : <Latest />}
    </>
  );
}

function Ask({ now }: { now: string }) {
  const [text, setText] = useState(now);
  const ask = (e: globalThis.Event) => {
    e.preventDefault();
    const t = text.trim();
    if (t) go(/^\d+$/.test(t) ? seqPath(Number(t)) : trailPath(t));
  };
  return <form class="bar" onSubmit={ask}><input class="search wide1" data-filter="" type="search" value={text} onInput={(e) => setText(e.currentTarget.value)} aria-label="Trail of" placeholder="run/default/x, app/default/x, pod/NAME, event/ID, mr/REPO/1, commit/SHA, image/NAME@DIGEST, or a number" /><button type="submit">Show</button></form>;
}

function Chain({ of, seq }: { of: string; seq: string }) {
  const trail = useLoad(`${of}|${seq}`, (s) => (seq ? get<Trail>("/trail", { seq }, s) : whole(of, s)));
  const [steps, setSteps] = useState(false);
  return <Wait of={trail}>{(t) => {
    const me = t.entry ?? t.up?.[0];
    const up = (t.up ?? []).filter((e) => e.seq !== me?.seq).sort((a, b) => a.seq - b.seq);
    const down = t.down ?? [];
    const shown = indented(down, (d, i) => steps || !(d.entry.kind === "object.changed" || (d.entry.kind.startsWith("node.") && (down[i + 1]?.depth ?? 0) <= d.depth)));
    return (
      <>
        {up.length > 0 && me && <nav class="hchain" aria-label="The chain in short">{[...up, me].map((e) => <a key={e.seq} href={seqPath(e.seq)} class={e.seq === me.seq ? "on" : ""} title={e.subject}><Icon kind={e.kind} /><span>{e.kind}</span></a>)}</nav>}
        {up.length > 0 && <section><h2>Why</h2><div class="chain">{up.map((e) => <Line key={e.seq} e={e} />)}</div></section>}
        {me && <section><h2>This</h2><div class="chain"><Line e={me} here /></div></section>}
        <section><h2>What it led to <span class="count">{down.length}{t.truncated ? "+" : ""}</span></h2>
          {(steps || shown.length < down.length) && <label class="check"><input type="checkbox" checked={steps} onChange={(e) => setSteps(e.currentTarget.checked)} /> also each change of a step or object ({down.filter((d) => d.entry.kind.startsWith("node.") || d.entry.kind === "object.changed").length})</label>}
          {down.length ? <div class="chain">{shown.map((d) => <Line key={d.entry.seq} e={d.entry} depth={d.depth} />)}</div> : <p class="quiet">Nothing yet.</p>}
          {t.truncated && <p class="quiet">There is more than is shown here. Open an entry further down to go on from it.</p>}
        </section>
      </>
    );
  }}</Wait>;
}

type Down = NonNullable<Trail["down"]>;

/** indented leaves entries out and sets the others as deep as those above them that are shown. */
function indented(down: Down, keep: (d: Down[number], i: number) => boolean): Down {
  const above: { depth: number; shown: boolean }[] = [];
  const out: Down = [];
  down.forEach((d, i) => {
    while (above.length && above[above.length - 1]!.depth >= d.depth) above.pop();
    const shown = keep(d, i);
    if (shown) out.push({ ...d, depth: above.filter((a) => a.shown).length });
    above.push({ depth: d.depth, shown });
  });
  return out;
}

/** whole reads the trail of a thing from its first entry in the chain: the latest (say, that a run ended) leads to nothing. */
async function whole(of: string, signal: AbortSignal): Promise<Trail> {
  const t = await get<Trail>("/trail", { of }, signal);
  const chain = [...(t.up ?? [])].sort((a, b) => b.seq - a.seq);
  const me = t.entry ?? chain[0];
  if (!me) return t;
  let first = me;
  for (const e of chain.filter((e) => e.seq < me.seq)) {
    if (e.subject !== me.subject) break;
    first = e;
  }
  return first === me ? t : get<Trail>("/trail", { seq: first.seq }, signal);
}

/** brief is what an entry's body says in a few words: the step, the state, the message. */
function brief(body: unknown): string {
  if (!body || typeof body !== "object") return "";
  const b = body as Record<string, unknown>;
  const node = (b.node ?? b.shown) as Record<string, unknown> | undefined;
  const words = [node?.displayName, b.displayName, b.phase, b.outcome, b.version, b.title, b.message].filter((w): w is string => typeof w === "string" && w !== "");
  return [...new Set(words)].join(" · ").slice(0, 200);
}

function Latest() {
  const entries = useLoad("entries", async (s) => {
    const head = await get<LedgerHead>("/ledger/head", {}, s);
    return get<{ items?: Entry[] }>("/entries", { after: Math.max(0, head.seq - 50), limit: 50 }, s);
  }, { tables: ["run", "event", "application", "mr", "definition"] });
  return <Wait of={entries}>{(p) => (p.items?.length
    ? <section><h2>Latest entries</h2><div class="chain">{[...p.items].sort((a, b) => b.seq - a.seq).map((e) => <Line key={e.seq} e={e} />)}</div></section>
    : <Empty title="The ledger is empty"><p>It fills with the first push, run or deployment.</p></Empty>)}</Wait>;
}

function Line({ e, depth = 0, here }: { e: Entry; depth?: number; here?: boolean }) {
  const [open, setOpen] = useState(false);
  const to = thing(e.subject);
  return (
    <div class={here ? "entry here" : "entry"} style={{ "--depth": Math.min(depth, 10) }}>
      <Icon kind={e.kind} />
      <div class="grow">
        <div class="entryline"><b>{e.kind}</b>{to ? <a href={to}>{e.subject}</a> : <span class="subject">{e.subject}</span>}<span class="faint">{brief(e.body)}</span></div>
        <div class="meta"><span><Who of={e.actor} /></span><span title={full(e.time)}><Ago t={e.time} /></span><a data-row href={seqPath(e.seq)}>#{e.seq}</a>
          {(e.body !== undefined && e.body !== null) && <button type="button" class="link" aria-expanded={open} onClick={() => setOpen(!open)}>{open ? "hide" : "body"}</button>}
          {e.pruned && <span class="faint">body erased</span>}</div>
        {open && <Json value={e.body} />}
      </div>
    </div>
  );
}

const icons: Record<string, [string, Tone]> = {
  event: ["↯", "busy"], sensor: ["◇", "wait"], trigger: ["▸", "wait"], run: ["▶", "good"], node: ["•", "none"], release: ["⬢", "merged"], application: ["▣", "good"],
  sync: ["⟳", "busy"], object: ["▪", "none"], health: ["♥", "good"], mr: ["Y", "merged"], push: ["↑", "busy"], ref: ["⌥", "none"], repo: ["▤", "none"], image: ["◈", "merged"], definition: ["¶", "none"],
};

function Icon({ kind }: { kind: string }) {
  const [sign, tone] = icons[kind.split(".")[0] ?? ""] ?? ["·", "none"];
  return <span class={`kind t-${tone}`} aria-hidden="true">{sign}</span>;
}

/** thing is the screen of what an entry is about. */
function thing(subject: string): string | undefined {
  const [kind, ...rest] = subject.split("/");
  const [a, b] = rest;
  if (kind === "run" && a && b) return runPath(a, b);
  if ((kind === "application" || kind === "app") && a && b) return appPath(a, b);
  if (kind === "event" && a) return eventPath(rest.join("/"));
  if (kind === "mr") {
    const m = /^(.+)[/#](\d+)$/.exec(rest.join("/"));
    if (m) return mrPath(m[1]!, m[2]!);
  }
  return undefined;
}

const kept = "tiphys-head";

function remembered(): LedgerHead | undefined {
  try {
    const s = window.localStorage.getItem(kept);
    return s ? JSON.parse(s) as LedgerHead : undefined;
  } catch { return undefined; }
}

/** Verify checks the chain, and against the signed head that this browser saw last: neither change nor cut passes. */
function Verify() {
  const head = useLoad("verify-head", (s) => get<LedgerHead>("/ledger/head", {}, s));
  const [report, setReport] = useState<VerifyReport>();
  const [error, setError] = useState<Failure>();
  const [busy, setBusy] = useState(false);
  const [part, setPart] = useState(0);
  const check = async () => {
    setBusy(true);
    setError(undefined);
    try {
      const since = remembered();
      let s = await call<VerifyState>("POST", "/ledger/verify", since ? { since } : {});
      while (s?.running) {
        setPart(s.progress.total ? (s.progress.checked?.seq ?? 0) / s.progress.total : 0);
        s = await get<VerifyState>("/ledger/verify"); // the server answers at the end, or after a moment
      }
      if (s?.error) throw new Failure(0, s.error);
      const r = s?.report;
      setReport(r);
      if (r && !r.faults?.length && !r.damage?.length) {
        const now = await get<LedgerHead>("/ledger/head");
        try { window.localStorage.setItem(kept, JSON.stringify(now)); } catch { /* then the next check has no older head to compare with */ }
      }
    } catch (e) { setError(e instanceof Failure ? e : new Failure(0, String(e))); }
    setBusy(false);
  };
  return (
    <div class="verify">
      {head.data && <span class="faint">head #{head.data.seq} <Sha of={head.data.hash} /></span>}
      {report && !report.faults?.length && !report.damage?.length && <Badge tone="good">whole: {report.entries} entries</Badge>}
      <button type="button" onClick={() => void check()} disabled={busy}>{busy ? (part ? `Checking… ${Math.floor(part * 100)} %` : "Checking…") : "Verify"}</button>
      {error && <Problem error={error} />}
      {report?.damage?.map((d) => <div class="note t-bad" key={d}>the file: {d}</div>)}
      {report?.faults?.map((f) => <div class="note t-bad" key={f.seq + f.what}>entry {f.seq}: {f.what}</div>)}
    </div>
  );
}
