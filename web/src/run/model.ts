import { ms } from "../lib/format";
import type { Node, Run } from "../lib/types";
import { push } from "./link";

/** Item is what the graph and the list show: one node, or a stack of siblings that stand for one fan-out. */
export interface Item {
  id: string;
  node: Node;
  /** members are the nodes of a stack; a single node has none. */
  members?: Node[];
  /** small is a node that only joins others: a step group. */
  small: boolean;
}

export interface Shape { items: Item[]; edges: [string, string][] }

/** stackAt is the number of siblings from which a fan-out is shown as one. */
const stackAt = 9;

/** most is about how many nodes a graph shows before it folds its deepest levels. */
const most = 300;

export const isLeaf = (n: Node) => n.type === "Pod" || n.type === "Container" || n.type === "HTTP" || n.type === "Suspend" || n.type === "Plugin";
export const hasLog = (n: Node) => n.type === "Pod" || n.type === "Container";
/** suspended tells of a step that waits until a person lets it go on. */
export const suspended = (n: Node) => n.type === "Suspend" && n.phase === "Running";
export const isBad = (n: Node) => n.phase === "Failed" || n.phase === "Error";

/** label is a node's name for people. An exit handler is named after its run, which the screen's head names already. */
export const label = (n: Node) => (n.boundaryID ? n.displayName || n.name : (n.displayName || n.name).replace(/^.+\.(?=onExit$)/, ""));

/** stem is a name without the index of its loop: "build(3:arm64)" is "build". */
export function stem(name: string): string {
  return name.replace(/\(\d+(:.*)?\)$/s, "");
}

/** stacks finds the fan-outs: the id of the stack by member. Open ones are left out. */
export function stacks(nodes: Node[], open: ReadonlySet<string>): Map<string, string> {
  const groups = new Map<string, string[]>();
  const parents = new Map<string, string[]>();
  for (const n of nodes) for (const c of n.children ?? []) push(parents, c, n.id);
  for (const n of nodes) {
    if (n.type === "StepGroup" || n.type === "TaskGroup") continue;
    const name = label(n);
    const what = stem(name) !== name ? stem(name) : `*${n.templateName ?? n.type}`;
    const key = `${n.boundaryID ?? ""}|${(parents.get(n.id) ?? []).sort().join(",")}|${what}`;
    push(groups, key, n.id);
  }
  const out = new Map<string, string>();
  for (const ids of groups.values()) {
    const id = "stack:" + ids[0];
    if (ids.length >= stackAt && !open.has(id)) for (const m of ids) out.set(m, id);
  }
  return out;
}

/** represent tells for each node which item stands for it: itself, its stack, or what it is folded into. */
function represent(nodes: Node[], stacked: Map<string, string>, open: ReadonlySet<string>): Map<string, string> {
  const byID = new Map(nodes.map((n) => [n.id, n]));
  const depths = new Map<string, number>();
  const depth = (n: Node): number => {
    const known = depths.get(n.id);
    if (known !== undefined) return known;
    depths.set(n.id, 0);
    const above = n.boundaryID ? byID.get(n.boundaryID) : undefined;
    const d = above && above !== n ? depth(above) + 1 : 0;
    depths.set(n.id, d);
    return d;
  };
  const make = (deepest: number) => {
    const rep = new Map<string, string>();
    for (const n of nodes) {
      let stands = stacked.get(n.id) ?? n.id;
      const seen = new Set<string>();
      for (let b = n.boundaryID; b && !seen.has(b); b = byID.get(b)?.boundaryID) {
        seen.add(b);
        const above = byID.get(b);
        if (!above) break;
        if (stacked.has(b)) stands = stacked.get(b)!;
        else if (depth(above) >= deepest) stands = b;
      }
      rep.set(n.id, stands);
    }
    return rep;
  };
  let deepest = Infinity;
  let rep = make(deepest);
  if (new Set(rep.values()).size > most) {
    for (deepest = Math.max(0, ...nodes.map(depth)); deepest > 0 && new Set(rep.values()).size > most; deepest--) rep = make(deepest);
  }
  if (new Set(rep.values()).size <= most) return rep;
  return gather(nodes, rep, open);
}

/** gather makes stacks of what is still too much: nodes of one template in one place, whatever they come after. */
function gather(nodes: Node[], rep: Map<string, string>, open: ReadonlySet<string>): Map<string, string> {
  const groups = new Map<string, string[]>();
  const byID = new Map(nodes.map((n) => [n.id, n]));
  for (const id of new Set(rep.values())) {
    const n = byID.get(id);
    if (n && !joins(n)) push(groups, `${n.boundaryID ?? ""}|${n.templateName ?? n.type}`, id);
  }
  const into = new Map<string, string>();
  for (const ids of groups.values()) if (ids.length >= stackAt && !open.has("stack:" + ids[0])) for (const id of ids) into.set(id, "stack:" + ids[0]);
  return new Map([...rep].map(([id, stands]) => [id, into.get(stands) ?? stands]));
}

// The root stands for the whole run, which the screen's head tells about; like a group it only joins.
const joins = (n: Node) => n.type === "StepGroup" || n.type === "TaskGroup" || ((n.type === "DAG" || n.type === "Steps") && !n.boundaryID && (n.children?.length ?? 0) > 0);

/** shape makes what the graph draws from a run's nodes. */
export function shape(nodes: Node[], open: ReadonlySet<string>): Shape {
  const rep = represent(nodes, stacks(nodes, open), open);
  const byID = new Map(nodes.map((n) => [n.id, n]));
  const items = new Map<string, Item>();
  for (const n of nodes) {
    const id = rep.get(n.id)!;
    const have = items.get(id);
    if (!id.startsWith("stack:")) {
      if (!have) items.set(id, { id, node: byID.get(id) ?? n, small: false });
    } else if (!have) items.set(id, { id, node: byID.get(id.slice(6)) ?? n, members: [n], small: false });
    else if (n.boundaryID === have.node.boundaryID) have.members!.push(n);
  }
  for (const i of items.values()) if (!i.id.startsWith("stack:")) i.small = joins(i.node);
  const edges = new Map<string, [string, string]>();
  for (const n of nodes) {
    for (const c of n.children ?? []) {
      const a = rep.get(n.id), b = rep.get(c);
      if (a && b && a !== b) edges.set(`${a}>${b}`, [a, b]);
    }
  }
  return { items: [...items.values()], edges: [...edges.values()] };
}

/** counts says how many of a stack are in which phase: [phase, number], the worst first. */
export function counts(members: Node[]): [string, number][] {
  const order = ["Failed", "Error", "Running", "Pending", "Succeeded", "Skipped", "Omitted", ""];
  const by = new Map<string, number>();
  for (const m of members) by.set(m.phase ?? "", (by.get(m.phase ?? "") ?? 0) + 1);
  return [...by.entries()].sort((a, b) => order.indexOf(a[0]) - order.indexOf(b[0]));
}

/** worst is the phase that a stack shows. */
export const worst = (members: Node[]) => counts(members)[0]?.[0] ?? "";

/** Line is a row of the list: an item with its depth. */
export interface Line { item: Item; depth: number }

/** tree puts the nodes in the order and depth in which people think of them: what is inside what. */
export function tree(nodes: Node[], open: ReadonlySet<string>): Line[] {
  const stacked = stacks(nodes, open);
  const byID = new Map(nodes.map((n) => [n.id, n]));
  const retries = retryOf(nodes);
  const kids = new Map<string, Node[]>();
  const home = (n: Node): string => {
    let up = retries.get(n.id) ?? (n.boundaryID && byID.has(n.boundaryID) ? n.boundaryID : "");
    if (up === n.id) up = "";
    return up;
  };
  for (const n of nodes) {
    if (n.type === "StepGroup" || n.type === "TaskGroup") continue;
    const up = home(n);
    push(kids, up, n);
  }
  const lines: Line[] = [];
  const walk = (up: string, depth: number, trail: Set<string>) => {
    const done = new Set<string>();
    const inside = (kids.get(up) ?? []).sort(inOrder);
    for (const n of inside) {
      const stack = stacked.get(n.id);
      if (stack) {
        if (done.has(stack)) continue;
        done.add(stack);
        const members = inside.filter((m) => stacked.get(m.id) === stack);
        lines.push({ depth, item: { id: stack, node: members[0]!, members, small: false } });
      } else if (!trail.has(n.id)) {
        lines.push({ depth, item: { id: n.id, node: n, small: false } });
        trail.add(n.id);
        walk(n.id, depth + 1, trail);
        trail.delete(n.id);
      }
    }
  };
  walk("", 0, new Set());
  return lines;
}

/** byName is the order in which siblings stand in the graph: build(0) above build(1), whichever began first. */
export const byName = (a: Node, b: Node) => inNumbers.compare(label(a), label(b));

// Made once: a comparison that makes its own takes a hundred times as long.
const inNumbers = new Intl.Collator(undefined, { numeric: true });

function inOrder(a: Node, b: Node): number {
  if (a.order !== undefined && b.order !== undefined && a.order !== b.order) return a.order - b.order;
  const x = ms(a.startedAt) || Infinity, y = ms(b.startedAt) || Infinity;
  return x === y ? byName(a, b) : x - y;
}

/** landing is the node that a person wants to see first: the first failure, else what runs, else nothing. */
export function landing(run: Run, nodes: Node[]): string | undefined {
  const leaves = nodes.filter(isLeaf).sort(inOrder);
  if (run.phase === "Failed" || run.phase === "Error") {
    const retries = retryOf(nodes);
    const byID = new Map(nodes.map((n) => [n.id, n]));
    // An attempt that a later one made good did not fail the run; of those that all failed the last has the newest log.
    const bad = leaves.filter(isBad).filter((n) => {
      const retry = byID.get(retries.get(n.id) ?? "");
      return !retry || (isBad(retry) && !leaves.some((m) => m !== n && isBad(m) && retries.get(m.id) === retry.id && inOrder(m, n) > 0));
    });
    const failed = bad.find((n) => n.id === run.failed) ?? bad[0] ?? nodes.find(isBad);
    if (failed) return failed.id;
  }
  return (leaves.find((n) => n.type === "Suspend" && n.phase === "Running") ?? leaves.find((n) => n.phase === "Running") ?? leaves.find((n) => n.phase === "Pending"))?.id;
}

/** retryOf tells for each attempt which retry it belongs to. */
function retryOf(nodes: Node[]): Map<string, string> {
  const byID = new Map(nodes.map((n) => [n.id, n]));
  const out = new Map<string, string>();
  for (const n of nodes) if (n.type === "Retry") for (const c of n.children ?? []) if (byID.get(c)?.nodeFlag?.retried || label(byID.get(c) ?? n).startsWith(label(n) + "(")) out.set(c, n.id);
  return out;
}
