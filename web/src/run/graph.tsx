import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { now, took } from "../lib/format";
import type { Node } from "../lib/types";
import { toneOf } from "../ui/status";
import { slim, type Ask, type Drawing } from "./draw";
import type { Placed } from "./layout";
import { counts, label, stem, suspended, worst, type Item } from "./model";
import { Tree, type ViewProps } from "./tree";

/** readable is the scale below which names are too small: rather than that, the graph scrolls. */
const readable = 0.75;

/** useDrawing asks a worker for the drawing of a run whenever what hangs on what changes; one at a time. */
function useDrawing(nodes: Node[], shape: number, open: ReadonlySet<string>): Drawing | undefined {
  const [drawing, setDrawing] = useState<Drawing>();
  const desk = useRef<{ worker: Worker; busy: boolean; next?: Ask }>();
  useEffect(() => {
    const worker = new Worker(new URL("./layout.worker.ts", import.meta.url), { type: "module" });
    const d = desk.current = { worker, busy: false } as NonNullable<typeof desk.current>;
    worker.onmessage = (e: MessageEvent<Drawing>) => {
      setDrawing(e.data);
      const next = d.next;
      d.busy = !!next;
      d.next = undefined;
      if (next) worker.postMessage(next);
    };
    return () => { worker.terminate(); desk.current = undefined; };
  }, []);
  useEffect(() => {
    const d = desk.current;
    if (!d) return;
    const ask: Ask = { id: shape, nodes: nodes.map(slim), open: [...open] };
    if (d.busy) { d.next = ask; return; }
    d.busy = true;
    d.worker.postMessage(ask);
  }, [shape, open]);
  return drawing;
}

/** itemsOf fills a drawing with the nodes as they are now. One that has gone since is left out. */
function itemsOf(d: Drawing | undefined, nodes: Node[]): Item[] {
  if (!d) return [];
  const byID = new Map(nodes.map((n) => [n.id, n]));
  const items: Item[] = [];
  for (const s of d.items) {
    const node = byID.get(s.node), members = s.members?.map((m) => byID.get(m)).filter((m) => m !== undefined);
    if (node) items.push({ id: s.id, node, members, small: s.small });
  }
  return items;
}

/** Graph draws the run's shape; where one would be a carpet it says so and gives the list. */
export function Graph({ shape, ...view }: ViewProps & { shape: number }) {
  const { nodes, chosen, select, open, toggle } = view;
  const drawing = useDrawing(nodes, shape, open);
  const items = useMemo(() => itemsOf(drawing, nodes), [drawing, nodes]);
  const box = useRef<HTMLDivElement>(null);
  const room = useRoom(box);
  const placed = drawing?.right && drawing.down && better(drawing.right, drawing.down, room);
  const [zoom, setZoom] = useState(0);
  const fit = placed ? Math.max(readable, scaleFor(placed, room)) : 1;
  const scale = zoom || fit;
  useEffect(() => {
    const b = placed?.boxes.get(items.find((i) => i.id === chosen || i.members?.some((m) => m.id === chosen))?.id ?? "");
    const el = box.current;
    if (b && el) el.scrollTo({ left: (b.x + b.w / 2) * scale - el.clientWidth / 2, top: (b.y + b.h / 2) * scale - el.clientHeight / 2 });
  }, [chosen, placed, scale]);
  if (drawing && !placed) return <><p class="quiet pad">A graph of {drawing.boxes} boxes could not be read: these are the steps as a list.</p><Tree {...view} /></>;
  return (
    <div class="graphwrap">
      <div class={placed && placed.lines.length > 150 ? "graph many" : "graph"} ref={box}>
        {placed && <svg width={placed.w * scale} height={placed.h * scale} viewBox={`0 0 ${placed.w} ${placed.h}`} role="group" aria-label="Graph of the run">
          {placed.lines.map((l) => <path key={`${l.from}>${l.to}`} d={l.d} class="edge" />)}
          {items.map((i) => {
            const b = placed.boxes.get(i.id);
            return b && <Shown key={i.id} item={i} x={b.x} y={b.y} w={b.w} h={b.h} on={i.id === chosen || !!i.members?.some((m) => m.id === chosen)} pick={() => (i.members ? toggle(i.id, i.members.length) : select(i.id))} />;
          })}
        </svg>}
      </div>
      <div class="zoom">
        <button type="button" aria-label="Zoom out" onClick={() => setZoom(Math.max(0.2, scale / 1.25))}>−</button>
        <button type="button" aria-label="Fit to width" onClick={() => setZoom(0)}>{Math.round(scale * 100)}%</button>
        <button type="button" aria-label="Zoom in" onClick={() => setZoom(Math.min(2, scale * 1.25))}>+</button>
      </div>
    </div>
  );
}

interface Room { w: number; h: number }

const scaleFor = (p: Placed, room: Room) => Math.min(1, (room.w - 4) / p.w, (room.h - 4) / p.h);

// Reading from left to right is the custom, so growing down must be clearly better.
const better = (right: Placed, down: Placed, room: Room) => (scaleFor(right, room) < readable && scaleFor(down, room) > scaleFor(right, room) * 1.15 ? down : right);

function useRoom(box: preact.RefObject<HTMLDivElement>): Room {
  const [room, setRoom] = useState<Room>({ w: 600, h: 500 });
  useEffect(() => {
    const el = box.current;
    if (!el) return;
    const measure = () => setRoom({ w: el.clientWidth, h: el.clientHeight });
    measure();
    const o = new ResizeObserver(measure);
    o.observe(el);
    return () => o.disconnect();
  }, []);
  return room;
}

interface ShownProps { item: Item; x: number; y: number; w: number; h: number; on: boolean; pick: () => void }

function Shown({ item, x, y, w, h, on, pick }: ShownProps) {
  const { node, members } = item;
  const phase = members ? worst(members) : suspended(node) ? "Suspended" : node.phase;
  const tone = toneOf(phase);
  const name = members ? stem(label(node)) : label(node);
  const key = (e: KeyboardEvent) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); pick(); } };
  const props = { onClick: pick, onKeyDown: key, tabIndex: 0, role: "button" as const, "aria-label": `${name}, ${phase || "not begun"}`, transform: `translate(${x} ${y})` };
  if (item.small) return <g {...props} class={`gnode t-${tone} ${on ? "on" : ""}`}><title>{name}</title><circle class="gdot" cx={w / 2} cy={h / 2} r="5" /></g>;
  const sub = members ? "" : suspended(node) ? "waits for you" : node.type === "Skipped" || phase === "Skipped" || phase === "Omitted" ? (phase ?? "").toLowerCase() : took(node.startedAt, node.finishedAt, now.value) || (phase === "Pending" ? "waiting" : "");
  return (
    <g {...props} class={`gnode t-${tone} ${on ? "on" : ""}`}>
      <title>{`${name}: ${phase || "not begun"}${node.message ? `. ${node.message}` : ""}${node.why ? `. ${node.why}` : ""}`}</title>
      {members && <><rect class="gbox" x="8" y="8" width={w} height={h} rx="8" /><rect class="gbox" x="4" y="4" width={w} height={h} rx="8" /></>}
      <rect class="gbox" width={w} height={h} rx="8" />
      <Sign tone={tone} h={h} />
      <text class="gname" x="32" y={members || sub ? 19 : 27}>{clip(name, w - 40 - (members ? 9 * String(members.length).length + 16 : 0))}</text>
      {sub && <text class="gsub" x="32" y="34">{sub}</text>}
      {members && <text class="gsub" x={w - 10} y="19" text-anchor="end">× {members.length}</text>}
      {members && <Bar members={members} w={w} />}
    </g>
  );
}

function Sign({ tone, h }: { tone: string; h: number }) {
  const d = { good: "M-3.5.3-1 2.8 3.6-2.5", bad: "m-2.7-2.7 5.4 5.4m0-5.4-5.4 5.4", busy: "M0-3.6A3.6 3.6 0 0 1 3.6 0", wait: "M0-3.2V0l2.2 1.4", warn: "M0-3.4v4m0 2.4v.2", none: "M-3 0h6", merged: "M-3 0h6" }[tone];
  return <g transform={`translate(18 ${h / 2})`} class={tone === "busy" ? "gsign turning" : "gsign"}><circle r="8" /><path d={d} /></g>;
}

function Bar({ members, w }: { members: NonNullable<Item["members"]>; w: number }) {
  let x = 32;
  const room = w - 42;
  return <>{counts(members).map(([phase, n]) => {
    const part = (room * n) / members.length;
    const rect = <rect key={phase} class={`gbar t-${toneOf(phase)}`} x={x} y="28" width={Math.max(2, part - 1)} height="6" rx="2"><title>{`${n} ${phase || "not begun"}`}</title></rect>;
    x += part;
    return rect;
  })}</>;
}

/** clip cuts a name where it would leave its box; SVG text does not wrap. */
function clip(s: string, room: number): string {
  const pen = document.createElement("canvas").getContext("2d");
  if (!pen) return s.slice(0, Math.floor(room / 8));
  pen.font = `600 12.5px ${getComputedStyle(document.body).fontFamily}`;
  const fits = (t: string) => pen.measureText(t).width <= room;
  if (fits(s)) return s;
  // Of a member of a loop the index tells more than the name, which its neighbours share.
  const index = /\(\d+(:.*)?\)$/s.exec(s)?.[0] ?? "";
  const end = index && fits("abc…" + index) ? index : "";
  let n = s.length - end.length;
  while (n > 1 && !fits(s.slice(0, n) + "…" + end)) n--;
  return s.slice(0, n) + "…" + end;
}
