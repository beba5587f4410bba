import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { Failure, get } from "../lib/api";
import { onRows } from "../lib/live";
import { seg } from "../lib/router";
import type { Node, NodePage, Run, RunStart } from "../lib/types";
import { RunStore } from "./store";

/** Pages: a small first one, so that there is something to see at once, then large ones. */
const firstPage = 400, nextPage = 4000;

/** drawn is the least time between two drawings of a run that has many nodes, in ms. */
const drawn = 250;

/** Seen is what a screen shows of a run. */
export interface Seen { run: Run; nodes: Node[]; complete: boolean; shape: number }

export interface LiveRun { data: Seen | undefined; error: Failure | undefined; loading: boolean; reload: () => void }

/** useRun reads a run page by page, and then takes its changes as they come: nothing is read twice. */
export function useRun(namespace: string, name: string): LiveRun {
  const key = `${namespace}/${name}`;
  const [state, setState] = useState<{ key: string; data?: Seen; error?: Failure }>({ key });
  const again = useRef<() => void>(() => {});
  useEffect(() => {
    const store = new RunStore(), abort = new AbortController();
    const path = `/runs/${seg(namespace)}/${seg(name)}`;
    let timer = 0, retry = 0, reading = false, stale = false, stop = () => {};
    const show = () => {
      window.clearTimeout(timer);
      timer = 0;
      if (!abort.signal.aborted && store.run) setState({ key, data: { run: store.run, nodes: store.all(), complete: store.complete, shape: store.shape } });
    };
    const soon = () => { if (!timer) timer = window.setTimeout(show, store.size > 1000 ? drawn : 0); };
    const read = async () => {
      if (reading) { stale = true; return; }
      reading = true;
      stale = false;
      try {
        const first = await get<RunStart>(path, { brief: 1, limit: firstPage }, abort.signal);
        store.begin(first);
        show();
        stop();
        stop = onRows([`run@${key}`, `node@${key}`], (rows) => { if (store.take(key, rows)) void read(); soon(); }, { since: first.seq, lost: () => void read() });
        for (let next = first.next; next;) {
          const page: NodePage = await get<NodePage>(`${path}/nodes`, { brief: 1, limit: nextPage, after: next }, abort.signal);
          store.page(page);
          next = page.next;
          soon();
        }
        store.end();
        show();
      } catch (e) {
        if (abort.signal.aborted) return;
        const error = e instanceof Failure ? e : new Failure(0, String(e));
        setState((old) => ({ key, data: old.key === key && error.code !== 404 ? old.data : undefined, error }));
        // No answer at all: a network that was away for a moment, or a server that is being started again.
        if (error.code === 0) retry = window.setTimeout(() => void read(), 2000);
      } finally {
        reading = false;
      }
      if (stale && !abort.signal.aborted) void read();
    };
    again.current = () => void read();
    void read();
    return () => { abort.abort(); window.clearTimeout(timer); window.clearTimeout(retry); stop(); };
  }, [key]);
  const mine = state.key === key;
  return { data: mine ? state.data : undefined, error: mine ? state.error : undefined, loading: !mine || (!state.data && !state.error), reload: useCallback(() => again.current(), []) };
}
