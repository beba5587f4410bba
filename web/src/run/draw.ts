import type { Node } from "../lib/types";
import { layout, type Placed } from "./layout";
import { shape } from "./model";

/** Ask is what the worker needs to know of a run to draw its graph. */
export interface Ask { id: number; nodes: Node[]; open: string[] }

/** Sketch is an item of a drawing: a node, or a stack of them. */
export interface Sketch { id: string; node: string; members?: string[]; small: boolean }

/** Drawing is where everything stands; of a graph that nobody could read only how many boxes it would have. */
export interface Drawing { id: number; items: Sketch[]; right?: Placed; down?: Placed; boxes: number }

/** readable is how many boxes a graph may have: more are a carpet, and take long to place. */
export const readable = 500;

/** draw makes a graph of a run's nodes and places it, to the right and down. */
export function draw(ask: Ask): Drawing {
  const s = shape(ask.nodes, new Set(ask.open));
  const boxes = s.items.length;
  if (boxes > readable || s.edges.length > readable * 8) return { id: ask.id, items: [], boxes };
  const items = s.items.map((i): Sketch => ({ id: i.id, node: i.node.id, members: i.members?.map((m) => m.id), small: i.small }));
  return { id: ask.id, items, boxes, right: layout(s, "LR"), down: layout(s, "TB") };
}

/** slim leaves of a node what its place in the graph depends on. */
export const slim = (n: Node): Node => ({ id: n.id, name: n.name, displayName: n.displayName, type: n.type, templateName: n.templateName, boundaryID: n.boundaryID, children: n.children });
