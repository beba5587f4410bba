import dagre from "@dagrejs/dagre";
import { byName, type Item, type Shape } from "./model";

export interface Box { x: number; y: number; w: number; h: number }
export interface Placed { boxes: Map<string, Box>; lines: { from: string; to: string; d: string }[]; w: number; h: number }

const size = { w: 168, h: 44 };
const dot = { w: 14, h: 14 };
const cache = new Map<string, Placed>();

/** Direction is where the graph grows: to the right or down. */
export type Direction = "LR" | "TB";

/** layout places a shape. The same topology is placed once: a change of status moves nothing. */
export function layout(s: Shape, dir: Direction): Placed {
  const key = dir + s.items.map((i) => i.id).join() + "|" + s.edges.map((e) => e.join(">")).join();
  const known = cache.get(key);
  if (known) return known;
  const g = new dagre.graphlib.Graph();
  g.setGraph({ rankdir: dir, nodesep: 14, ranksep: dir === "LR" ? 44 : 34, marginx: 20, marginy: 20 });
  g.setDefaultEdgeLabel(() => ({}));
  for (const i of s.items) {
    const { w, h } = i.small ? dot : size;
    g.setNode(i.id, { width: w, height: h });
  }
  for (const [a, b] of s.edges) g.setEdge(a, b);
  dagre.layout(g);
  const placed = read(g, s, dir);
  if (cache.size > 20) cache.clear();
  cache.set(key, placed);
  return placed;
}

type Graph = InstanceType<typeof dagre.graphlib.Graph>;

/** seats gives siblings that hang on the same nodes their places by name, build(0) before build(1): dagre has no opinion on it, a reader has. */
function seats(g: Graph, s: Shape, dir: Direction): Map<string, string> {
  const alike = new Map<string, Item[]>();
  for (const i of s.items) {
    const key = `${i.small}|${(g.predecessors(i.id) ?? []).sort().join()}|${(g.successors(i.id) ?? []).sort().join()}`;
    alike.set(key, [...(alike.get(key) ?? []), i]);
  }
  const at = (id: string) => { const n = g.node(id) as { x: number; y: number }; return dir === "LR" ? n.y : n.x; };
  const out = new Map<string, string>();
  for (const group of alike.values()) {
    const places = group.map((i) => i.id).sort((a, b) => at(a) - at(b));
    [...group].sort((a, b) => byName(a.node, b.node)).forEach((i, n) => out.set(i.id, places[n]!));
  }
  return out;
}

function read(g: Graph, s: Shape, dir: Direction): Placed {
  const boxes = new Map<string, Box>();
  const seat = seats(g, s, dir);
  let w = 0, h = 0;
  for (const i of s.items) {
    const n = g.node(seat.get(i.id)!) as { x: number; y: number; width: number; height: number };
    boxes.set(i.id, { x: n.x - n.width / 2, y: n.y - n.height / 2, w: n.width, h: n.height });
    w = Math.max(w, n.x + n.width / 2);
    h = Math.max(h, n.y + n.height / 2);
  }
  const lines = s.edges.map(([from, to]) => ({ from, to, d: curve(boxes.get(from)!, boxes.get(to)!, (g.edge(seat.get(from)!, seat.get(to)!) as { points?: { x: number; y: number }[] }).points ?? [], dir) }));
  return { boxes, lines, w: w + 20, h: h + 20 };
}

// An edge that passes ranks goes through dagre's points, which lead around the nodes between.
function curve(a: Box, b: Box, points: { x: number; y: number }[], dir: Direction): string {
  const down = dir === "TB";
  const start = down ? { x: a.x + a.w / 2, y: a.y + a.h } : { x: a.x + a.w, y: a.y + a.h / 2 };
  const end = down ? { x: b.x + b.w / 2, y: b.y } : { x: b.x, y: b.y + b.h / 2 };
  const through = points.length > 3 ? points.slice(1, -1) : [];
  let d = `M${start.x} ${start.y}`;
  let from = start;
  for (const p of [...through, end]) {
    const x = (from.x + p.x) / 2, y = (from.y + p.y) / 2;
    d += down ? `C${from.x} ${y} ${p.x} ${y} ${p.x} ${p.y}` : `C${x} ${from.y} ${x} ${p.y} ${p.x} ${p.y}`;
    from = p;
  }
  return d;
}
