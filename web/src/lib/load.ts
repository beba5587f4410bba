import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { Failure } from "./api";
import { connection, onRows } from "./live";
import type { Row } from "./types";

export interface Loaded<T> {
  data: T | undefined;
  error: Failure | undefined;
  /** loading is true until there is something to show for the present key. */
  loading: boolean;
  reload: () => void;
  set: (change: (old: T) => T) => void;
}

interface Options {
  /** tables whose changes make the data old; of one thing's rows alone as "node@default/x". */
  tables?: string[];
  /** only says which changed rows matter. */
  only?: (r: Row) => boolean;
}

/** apart is the least time between two reads of the same thing, in ms; what takes long to read is read less often. */
const apart = 600;
const timesLonger = 4;

/** useLoad reads something, and reads it again when the ledger says that it changed; never by the clock. */
export function useLoad<T>(key: string, read: (signal: AbortSignal) => Promise<T>, o: Options = {}): Loaded<T> {
  const [state, setState] = useState<{ key: string; data?: T; error?: Failure }>({ key });
  const latest = useRef({ read, only: o.only });
  latest.current = { read, only: o.only };
  const run = useRef<() => void>(() => {});

  useEffect(() => {
    const abort = new AbortController();
    let timer = 0, next = 0, gone = false, reading = false, stale = false;
    const load = async () => {
      timer = 0;
      // A read is never given up for a newer one: where changes come fast none would ever end.
      if (reading) { stale = true; return; }
      reading = true;
      stale = false;
      const began = Date.now();
      try {
        const data = await latest.current.read(abort.signal);
        if (!gone) setState({ key, data });
      } catch (e) {
        if (gone) return;
        const error = e instanceof Failure ? e : new Failure(0, String(e));
        setState((old) => ({ key, data: old.key === key ? old.data : undefined, error }));
        // No answer at all: a network that was away for a moment, or a server that is being started again.
        if (error.code === 0 && !timer) timer = window.setTimeout(() => void load(), 2000);
      } finally {
        reading = false;
      }
      next = Date.now() + Math.max(apart, (Date.now() - began) * timesLonger);
      if (stale) soon();
    };
    const soon = () => {
      if (reading) stale = true;
      else if (!timer) timer = window.setTimeout(() => void load(), Math.max(0, next - Date.now()));
    };
    run.current = () => void load();
    void load();
    const stop = o.tables ? onRows(o.tables, (rows) => {
      if (!latest.current.only || rows.some(latest.current.only)) soon();
    }, { lost: soon }) : () => {};
    return () => { gone = true; window.clearTimeout(timer); abort.abort(); stop(); };
  }, [key, o.tables?.join(",")]);

  // What could not be read while the server was away is read again when it is back.
  useEffect(() => {
    if (state.error?.code !== 0) return;
    let first = true;
    return connection.subscribe((c) => { if (c === "live" && !first) run.current(); first = false; });
  }, [state.error]);

  const mine = state.key === key;
  const data = mine ? state.data : undefined;
  return {
    data,
    error: mine ? state.error : undefined,
    loading: !mine || (!state.data && !state.error),
    reload: useCallback(() => run.current(), []),
    set: useCallback((change) => setState((s) => (s.data === undefined ? s : { ...s, data: change(s.data) })), []),
  };
}
