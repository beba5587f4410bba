import type { Node } from "../lib/types";

/** link tells for each node which nodes hang on it, as the server does for a run that fits into one answer (Argo's graph): a node hangs on the last nodes of what it comes after, or else on what it is part of. The nodes are in the order of their creation. */
export function link(nodes: Node[]): Map<string, string[]> {
  const byID = new Map(nodes.map((n) => [n.id, n]));
  const tops = new Map<string, string>();
  const below = new Map<string, Node[]>();
  for (const n of nodes) {
    if (!n.parent) tops.set(n.name, n.id);
    else push(below, n.parent, n);
  }
  const parts = (n: Node) => (below.get(n.id) ?? []).filter((c) => !c.nodeFlag?.hooked);
  const known = new Map<string, string[]>();
  const last = (n: Node): string[] => {
    const have = known.get(n.id);
    if (have) return have;
    known.set(n.id, [n.id]); // whoever is part of itself ends here
    let ids: string[] = [];
    if (n.type === "Retry" || n.type === "Steps") {
      const inside = parts(n), end = inside[inside.length - 1];
      if (end) ids = last(end);
    } else if (n.type === "StepGroup" || n.type === "TaskGroup") {
      for (const c of parts(n)) for (const id of last(c)) ids.push(id);
    } else if (n.type === "DAG") {
      const inside = parts(n), followed = new Set(inside.flatMap((c) => c.after ?? []));
      for (const c of inside) if (!followed.has(c.id)) for (const id of last(c)) ids.push(id);
    }
    if (!ids.length) ids = [n.id];
    known.set(n.id, ids);
    return ids;
  };
  const out = new Map<string, string[]>();
  for (const n of nodes) {
    let linked = false;
    for (const a of n.after ?? []) {
      const before = byID.get(a);
      if (!before) continue;
      for (const id of before.type === "Container" ? [a] : last(before)) if (byID.has(id)) { push(out, id, n.id); linked = true; }
    }
    if (linked) continue;
    if (n.parent && byID.has(n.parent)) push(out, n.parent, n.id);
    else if (n.nodeFlag?.hooked && n.name.includes(".hooks.")) {
      // The run's own hooks, but for its exit handler, hang on its first node.
      const top = tops.get(n.name.slice(0, n.name.indexOf(".hooks.")));
      if (top) push(out, top, n.id);
    }
  }
  return out;
}

/** push puts one more under a key. */
export function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}
