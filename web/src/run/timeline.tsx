import { useMemo } from "preact/hooks";
import { duration, ms, now } from "../lib/format";
import type { Run } from "../lib/types";
import { Glyph, toneOf } from "../ui/status";
import { Window } from "../ui/window";
import { isLeaf, label, stem, tree, worst, type Item } from "./model";
import type { ViewProps } from "./tree";

/** barHeight is the height of a step's bar with its name, in pixels. */
const barHeight = 30;

/** Timeline shows when each step ran, as bars on one axis. */
export function Timeline({ nodes, chosen, select, open, toggle, run }: ViewProps & { run: Run }) {
  const lines = useMemo(() => tree(nodes, open), [nodes, open]);
  const [first, last] = useMemo(() => extent(nodes), [nodes]);
  const from = Math.min(first, ms(run.startedAt ?? run.createdAt));
  const over = ms(run.finishedAt);
  const to = Math.max(Number.isNaN(over) ? now.value : over, last, from + 1000);
  const at = (t: number) => `${(100 * (t - from)) / (to - from)}%`;
  const bar = (start: number, end: number) => ({ left: at(start), width: `max(3px, ${(100 * (end - start)) / (to - from)}%)` });
  // The length stands behind its bar, or before it where there is no room behind, or in the margin.
  const beside = (start: number, end: number) => ((end - from) / (to - from) > 0.85 && (start - from) / (to - from) > 0.15
    ? { right: `calc(100% - ${at(start)} + 6px)` } : { left: `calc(max(${at(end)}, ${at(start)} + 3px) + 6px)` });
  return (
    <div class="timeline">
      <div class="axis"><span /><div class="ticks">{ticks(to - from).map((t) => <span key={t} style={{ left: at(from + t) }}>{duration(t) === "0ms" ? "0" : duration(t)}</span>)}</div></div>
      <Window class="bars" count={lines.length} height={barHeight} goTo={lines.findIndex((l) => l.item.id === chosen)} row={(i) => {
        const { item, depth } = lines[i]!;
        const [start, end] = span(item, to);
        const phase = item.members ? worst(item.members) : item.node.phase;
        return (
          <button key={item.id} type="button" class={item.id === chosen ? "tl on" : "tl"} aria-current={item.id === chosen} onClick={() => (item.members ? toggle(item.id, item.members.length) : select(item.id))}>
            <span class="tlname" style={{ paddingLeft: `${depth * 12}px` }}><Glyph state={phase} size={14} /><span class="clip">{item.members ? `${stem(label(item.node))} × ${item.members.length}` : label(item.node)}</span></span>
            <span class="track">
              {Number.isFinite(start) && <i class={`t-${toneOf(phase)} ${item.members || isLeaf(item.node) ? "bar2" : "bar2 thin"}`} style={bar(start, end)} />}
              {Number.isFinite(start) && phase !== "Skipped" && phase !== "Omitted" && <em style={beside(start, end)}>{duration(end - start)}</em>}
            </span>
          </button>
        );
      }} />
    </div>
  );
}

/** extent is when the first of the nodes began and the last ended, as far as they did. */
function extent(nodes: { startedAt?: string | null; finishedAt?: string | null }[]): [number, number] {
  let first = Infinity, last = -Infinity;
  for (const n of nodes) {
    const a = ms(n.startedAt), b = ms(n.finishedAt);
    if (a < first) first = a;
    if (b > last) last = b;
  }
  return [first, last];
}

function span(item: Item, to: number): [number, number] {
  let start = Infinity, end = -Infinity;
  for (const n of item.members ?? [item.node]) {
    const a = ms(n.startedAt), b = ms(n.finishedAt);
    if (!Number.isFinite(a)) continue;
    start = Math.min(start, a);
    end = Math.max(end, Number.isNaN(b) ? to : b);
  }
  return Number.isFinite(start) ? [start, Math.max(start, end)] : [NaN, NaN];
}

/** ticks are at most six round places on an axis of a length in ms. */
export function ticks(length: number): number[] {
  const steps = [100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 216e5, 432e5, 864e5];
  const step = steps.find((s) => length / s <= 6) ?? Math.ceil(length / 6 / 864e5) * 864e5;
  const out = [];
  for (let t = 0; t <= length * 0.96; t += step) out.push(t);
  return out;
}
