import { signal } from "@preact/signals";
import { get, loggedOut, url } from "./api";
import type { Head, Row } from "./types";

/** connection says whether changes arrive: "live", "connecting" or "lost"; "idle" where a screen shows nothing that changes. */
export const connection = signal<"live" | "connecting" | "lost" | "idle">("idle");

/** trouble is what keeps the server from recording anything; empty if nothing does. */
export const trouble = signal("");

interface Subscriber { tables: string[]; take: (rows: Row[]) => void }

// One stream serves all subscribers: browsers allow few connections to one host, and logs need some.
const subscribers = new Set<Subscriber>();
let source: EventSource | null = null;
let open = "";
let seen = -1;
let batch: Row[] = [];
let flushTimer = 0;
let planTimer = 0;
let retry = 500;

/** onRows calls take with the rows of the given tables as they change, a few times a second at most. */
export function onRows(tables: string[], take: (rows: Row[]) => void): () => void {
  const s = { tables, take };
  subscribers.add(s);
  plan();
  return () => { subscribers.delete(s); plan(); };
}

function plan(delay = 30): void {
  window.clearTimeout(planTimer);
  planTimer = window.setTimeout(() => void connect(), delay);
}

async function connect(): Promise<void> {
  const tables = [...new Set([...subscribers].flatMap((s) => s.tables))].sort().join(",");
  if (tables === open && source && source.readyState !== EventSource.CLOSED) return;
  source?.close();
  source = null;
  open = tables;
  if (!tables || loggedOut.peek()) { connection.value = "idle"; return; }
  if (connection.peek() === "idle") connection.value = "connecting";
  if (seen < 0) {
    // Ask for changes from where the ledger is now, so that none is missed before the stream is open.
    try { seen = (await get<Head>("/ledger/head")).seq; } catch { lost(); return; }
    if (open !== tables) return;
  }
  const es = new EventSource(url("/stream", { tables, since: seen }));
  source = es;
  es.onopen = () => { connection.value = "live"; retry = 500; trouble.value = ""; }; // what there is the stream tells first
  es.addEventListener("trouble", (e) => { trouble.value = String(JSON.parse((e as MessageEvent<string>).data)); });
  es.onmessage = (e) => receive(e);
  // Rows come table by table: the place to go on from is told when all of them have come.
  es.addEventListener("at", (e) => { seen = Math.max(seen, Number((e as MessageEvent<string>).data) || 0); });
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
    const mine = rows.filter((r) => s.tables.includes(r.table));
    if (mine.length) s.take(mine);
  }
}

/** restart opens the stream again, after a login. */
export function restart(): void {
  open = "";
  plan();
}
