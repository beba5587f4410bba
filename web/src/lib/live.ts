import { signal } from "@preact/signals";
import { get, loggedOut, url } from "./api";
import type { Head, Row } from "./types";

/** connection says whether changes arrive: "live", "connecting" or "lost"; "idle" where a screen shows nothing that changes. */
export const connection = signal<"live" | "connecting" | "lost" | "idle">("idle");

/** trouble is what keeps the server from recording anything; empty if nothing does. */
export const trouble = signal("");

interface Subscriber { watch: string[]; take: (rows: Row[]) => void; lost: () => void; since?: number }

interface Options {
  /** lost is called when changes were left out, since there were too many: what is shown must be read again. */
  lost?: () => void;
  /** since is the sequence up to which what is shown is known; changes after it are told. */
  since?: number;
}

// One stream serves all subscribers: browsers allow few connections to one host, and logs need some.
const subscribers = new Set<Subscriber>();
let source: EventSource | null = null;
let open = "";
let seen = -1;
let batch: Row[] = [];
let flushTimer = 0;
let planTimer = 0;
let retry = 500;

/** onRows calls take with rows as they change, a few times a second at most: those of whole tables ("run"), or those that are one thing or belong to it ("node@default/x"). */
export function onRows(watch: string[], take: (rows: Row[]) => void, o: Options = {}): () => void {
  const s: Subscriber = { watch, take, lost: o.lost ?? (() => {}), since: o.since };
  subscribers.add(s);
  plan();
  return () => { subscribers.delete(s); plan(); };
}

/** matches tells whether a row is among what is watched. Of a row that is gone the owner is not always known. */
export function matches(watch: string[], row: Row): boolean {
  return watch.some((w) => {
    const at = w.indexOf("@");
    if (at < 0) return w === row.table;
    const of = w.slice(at + 1);
    return w.slice(0, at) === row.table && (row.key === of || row.owner === of || (row.deleted === true && !row.owner));
  });
}

function plan(delay = 30): void {
  window.clearTimeout(planTimer);
  planTimer = window.setTimeout(() => void connect(), delay);
}

/** wanted is what the subscribers watch together: who watches a whole table needs no part of it. */
function wanted(): string[] {
  const all = new Set([...subscribers].flatMap((s) => s.watch));
  return [...all].filter((w) => !w.includes("@") || !all.has(w.slice(0, w.indexOf("@")))).sort();
}

async function connect(): Promise<void> {
  const watch = wanted(), key = watch.join("\n");
  // One who knows less than the stream has told needs it from there.
  const since = Math.min(...[...subscribers].map((s) => s.since ?? Infinity));
  if (key === open && source && source.readyState !== EventSource.CLOSED && since >= seen) return;
  source?.close();
  source = null;
  open = key;
  if (!key || loggedOut.peek()) { connection.value = "idle"; return; }
  if (connection.peek() === "idle") connection.value = "connecting";
  if (seen < 0 && since === Infinity) {
    // Ask for changes from where the ledger is now, so that none is missed before the stream is open.
    try { seen = (await get<Head>("/ledger/head")).seq; } catch { lost(); return; }
    if (open !== key) return;
  }
  seen = seen < 0 ? since : Math.min(seen, since);
  for (const s of subscribers) delete s.since;
  const query = new URLSearchParams(watch.map((w) => ["watch", w]));
  const es = new EventSource(`${url("/stream", { since: seen, brief: 1 })}&${query.toString()}`);
  source = es;
  es.onopen = () => { connection.value = "live"; retry = 500; trouble.value = ""; }; // what there is the stream tells first
  es.addEventListener("trouble", (e) => { trouble.value = String(JSON.parse((e as MessageEvent<string>).data)); });
  es.onmessage = (e) => receive(e);
  es.addEventListener("resync", () => { if (es === source) for (const s of subscribers) s.lost(); });
  // Rows of one change come one after another: the place to go on from is told when all of them have come.
  es.addEventListener("at", (e) => { if (es === source) seen = Math.max(seen, Number((e as MessageEvent<string>).data) || 0); });
  es.onerror = () => {
    if (es !== source) return;
    // A closed stream is one the server refused; the browser retries by itself in the other case.
    if (es.readyState === EventSource.CLOSED) lost();
    else connection.value = "connecting";
  };
}

function lost(): void {
  connection.value = "lost";
  open = "";
  source?.close();
  source = null;
  retry = Math.min(retry * 2, 15_000);
  plan(retry);
}

function receive(e: MessageEvent<string>): void {
  let row: Row;
  try { row = JSON.parse(e.data) as Row; } catch { return; }
  batch.push(row);
  if (!flushTimer) flushTimer = window.setTimeout(flush, 120);
}

function flush(): void {
  flushTimer = 0;
  const rows = batch;
  batch = [];
  for (const s of subscribers) {
    const mine = rows.filter((r) => matches(s.watch, r));
    if (mine.length) s.take(mine);
  }
}

/** restart opens the stream again, after a login. */
export function restart(): void {
  open = "";
  plan();
}
