import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { spans, strip } from "../lib/ansi";
import { Failure } from "../lib/api";
import { firstError, Logbook, parseRange, writeRange, type Range } from "../lib/logbook";
import { place, setHash } from "../lib/router";
import { Copy, Problem } from "../ui/parts";

const rowHeight = 20;
const overscan = 30;

interface LogProps {
  address: (q: Record<string, string | number | undefined>) => string;
  live: boolean;
  atEnd: boolean;
  failed?: boolean;
  name: string;
  children?: ComponentChildren;
}

/** Log shows a log of any length: only the rows in sight are in the page. */
export function Log({ address, live, atEnd, failed, name, children }: LogProps) {
  const [, redraw] = useState(0);
  const [error, setError] = useState<Failure>();
  const [follow, setFollow] = useState(atEnd);
  const [wrap, setWrap] = useState(false);
  const [words, setWords] = useState("");
  const [hit, setHit] = useState(0);
  const box = useRef<HTMLDivElement>(null);
  const frame = useRef(0);
  const book = useMemo(() => new Logbook(() => {
    if (!frame.current) frame.current = requestAnimationFrame(() => { frame.current = 0; redraw((n) => n + 1); });
  }), []);
  const range = parseRange(place.value.hash);

  useEffect(() => {
    const abort = new AbortController();
    book.lines = [];
    book.gap = -1;
    book.read(address, live, abort.signal).catch((e) => { if (!abort.signal.aborted) setError(e instanceof Failure ? e : new Failure(0, String(e))); });
    return () => { abort.abort(); cancelAnimationFrame(frame.current); frame.current = 0; };
  }, []);

  const lines = book.lines;
  const hits = useMemo(() => find(lines, words), [words, lines.length]);
  const scroll = useScroll(box, lines.length, follow && !range, wrap);
  const jump = (i: number) => { setFollow(false); const el = box.current; if (el) scrollToLine(el, i, wrap); };

  // A link to lines goes there as soon as the lines have come.
  const went = useRef("");
  useEffect(() => {
    if (range && went.current !== place.value.hash && lines.length >= range.from) { went.current = place.value.hash; setFollow(false); const el = box.current; if (el) scrollToLine(el, range.from - 1, wrap); }
  }, [lines.length, place.value.hash]);

  const wrong = failed && book.done ? firstError(lines) : -1;
  const next = (by: number) => {
    if (!hits.length) return;
    const at = (hit + by + hits.length) % hits.length;
    setHit(at);
    jump(hits[at]!);
  };
  const onScroll = () => {
    const el = box.current;
    if (!el) return;
    scroll.moved();
    const end = el.scrollHeight - el.scrollTop - el.clientHeight < rowHeight * 2;
    if (end !== follow && (live || !end)) setFollow(end);
  };
  const pick = (n: number, extend: boolean) => {
    went.current = writeRange(extend && range ? { from: Math.min(range.from, n), to: Math.max(range.from, n) } : { from: n, to: n });
    setHash(went.current);
  };
  return (
    <div class="log">
      {wrong >= 0 && <button type="button" class="wrong" title="Show it in the log" onClick={() => jump(wrong)}>{strip(lines[wrong]!).trim()}<span class="faint"> line {wrong + 1}</span></button>}
      <div class="logbar">
        <input type="search" class="search" data-filter="" placeholder="Search the log" aria-label="Search the log" value={words}
          onInput={(e) => { setWords(e.currentTarget.value); setHit(-1); }} onKeyDown={(e) => { if (e.key === "Enter") next(e.shiftKey ? -1 : 1); }} />
        {words && <span class="num faint">{hits.length ? `${hit + 1 || "–"} / ${hits.length}` : "none"}</span>}
        <span class="grow" />
        {live && <button type="button" class={follow ? "small on" : "small"} aria-pressed={follow} onClick={() => setFollow(!follow)}>Follow</button>}
        <label class="check"><input type="checkbox" checked={wrap} onChange={(e) => setWrap(e.currentTarget.checked)} /> wrap</label>
        {children}
        {range && <Copy text={window.location.href} label={`Link to ${writeRange(range).slice(1)}`} />}
        <a class="small" href={address({})} download={name}>raw</a>
      </div>
      {error && <Problem error={error} />}
      <div class={wrap ? "lines wrap" : "lines"} style={{ "--rows": `${lines.length * rowHeight + 30}px` }} ref={box} onScroll={onScroll} tabIndex={0} role="log" aria-label="Log">
        {!lines.length && <p class="quiet pad">{book.done ? "The step wrote nothing." : "Waiting for the first line…"}</p>}
        <Lines lines={lines} gap={book.gap} from={wrap ? Math.max(0, lines.length - wrapMost) : scroll.from} to={wrap ? lines.length : scroll.to} padded={!wrap} range={range} hits={words ? new Set(hits) : undefined} now={hits[hit]} pick={pick} />
      </div>
    </div>
  );
}

// Wrapped lines have no fixed height; so many of the end are shown wrapped.
const wrapMost = 3000;

interface LinesProps { lines: string[]; gap: number; from: number; to: number; padded: boolean; range: Range | null; hits?: Set<number>; now?: number; pick: (n: number, extend: boolean) => void }

function Lines({ lines, gap, from, to, padded, range, hits, now, pick }: LinesProps) {
  const rows = [];
  for (let i = from; i < to; i++) {
    const known = gap < 0 || i < gap;
    const n = i + 1;
    let cls = "line";
    if (range && known && n >= range.from && n <= range.to) cls += " chosen";
    if (hits?.has(i)) cls += i === now ? " hit now" : " hit";
    if (i === gap) cls += " aftergap";
    rows.push(
      <div class={cls} key={i} data-line={i}>
        <a class="no" href={known ? `#L${n}` : undefined} aria-label={known ? `Line ${n}` : undefined} onClick={(e) => { e.preventDefault(); if (known) pick(n, e.shiftKey); }}>{known ? n : `−${lines.length - i}`}</a>
        <span class="text">{spans(lines[i]!).map((s, k) => (s.cls ? <span key={k} class={s.cls}>{s.text}</span> : s.text))}</span>
      </div>,
    );
  }
  return <div class="rows" style={padded ? { height: `${lines.length * rowHeight}px` } : {}}><div style={padded ? { transform: `translateY(${from * rowHeight}px)` } : {}}>{rows}</div></div>;
}

function useScroll(box: preact.RefObject<HTMLDivElement>, count: number, follow: boolean, wrap: boolean) {
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(600);
  useLayoutEffect(() => {
    const el = box.current;
    if (!el) return;
    if (el.clientHeight !== height) setHeight(el.clientHeight);
    if (follow) { el.scrollTop = el.scrollHeight; setTop(el.scrollTop); }
  }, [count, follow, wrap]);
  useEffect(() => {
    const el = box.current;
    if (!el || typeof ResizeObserver === "undefined") return;
    const o = new ResizeObserver(() => setHeight(el.clientHeight));
    o.observe(el);
    return () => o.disconnect();
  }, []);
  const from = Math.max(0, Math.floor(top / rowHeight) - overscan);
  return { from: Math.min(from, count), to: Math.min(count, Math.ceil((top + height) / rowHeight) + overscan), moved: () => setTop(box.current?.scrollTop ?? 0) };
}

function scrollToLine(el: HTMLElement, i: number, wrap: boolean): void {
  const row = wrap ? el.querySelector(`[data-line="${i}"]`) : null;
  if (row) row.scrollIntoView({ block: "center" });
  else el.scrollTop = i * rowHeight - el.clientHeight / 3;
}

function find(lines: string[], words: string): number[] {
  if (!words) return [];
  const w = words.toLowerCase();
  const out: number[] = [];
  for (let i = 0; i < lines.length && out.length < 10_000; i++) if (strip(lines[i]!).toLowerCase().includes(w)) out.push(i);
  return out;
}
