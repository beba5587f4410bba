import type { Node, NodePage, Row, Run, RunStart } from "../lib/types";
import { link } from "./link";

/** RunStore holds what is known of a run while its pages and its changes come, in whatever order: of each node the newest. */
export class RunStore {
  run?: Run;
  /** complete says that every node has been read; until then the pages still come. */
  complete = false;
  /** shape counts the changes of what hangs on what; a change of a node's phase is none. */
  shape = 0;

  private readonly nodes = new Map<string, Node>();
  private readonly known = new Map<string, number>(); // the sequence of what is known of a node, also of one that is gone
  private runAt = 0;
  private began = 0;
  private list: Node[] | undefined;
  private children = new Map<string, string[]>();
  private linked = -1;

  /** begin takes the first answer of a reading: it may be the first of all, or one again after changes were left out. */
  begin(first: RunStart): void {
    this.began = first.seq;
    this.complete = false;
    if (first.seq >= this.runAt) { this.run = first.run; this.runAt = first.seq; }
    this.page({ items: first.nodes, seq: first.seq });
  }

  /** page takes nodes that were read when the ledger was at a sequence, or later. */
  page(p: NodePage): void {
    for (const n of p.items ?? []) if ((this.known.get(n.id) ?? 0) <= p.seq) this.put(n, p.seq);
  }

  /** end says that all pages of a reading have come: what none of them had, and nobody has told of since, is gone. */
  end(): void {
    for (const id of [...this.nodes.keys()]) if (this.known.get(id)! < this.began) this.remove(id, this.began);
    this.complete = true;
  }

  /** take takes changes; key is the run's. It reports whether the run itself is gone. */
  take(key: string, rows: Row[]): boolean {
    let gone = false;
    for (const r of rows) {
      if (r.table === "run" && r.key === key) {
        if (r.seq < this.runAt) continue;
        this.runAt = r.seq;
        if (r.deleted) gone = true;
        else this.run = r.body as Run;
      } else if (r.table === "node" && r.key.startsWith(key + "/")) {
        const id = r.key.slice(key.length + 1);
        if (r.seq < (this.known.get(id) ?? 0)) continue;
        if (r.deleted) this.remove(id, r.seq);
        else this.put(r.body as Node, r.seq);
      }
    }
    return gone;
  }

  /** all gives the nodes in the order of their creation, with their children. */
  all(): Node[] {
    if (this.list) return this.list;
    let list = [...this.nodes.values()].sort((a, b) => (a.order ?? 0) - (b.order ?? 0));
    if (this.linked !== this.shape) {
      this.children = link(list);
      this.linked = this.shape;
    }
    list = list.map((n) => {
      const children = this.children.get(n.id);
      if (n.children === children) return n;
      const whole = { ...n, children };
      this.nodes.set(n.id, whole);
      return whole;
    });
    return (this.list = list);
  }

  get size(): number { return this.nodes.size; }

  private put(n: Node, seq: number): void {
    const old = this.nodes.get(n.id);
    if (!old || old.type !== n.type || old.parent !== n.parent || (old.after ?? []).join() !== (n.after ?? []).join()) this.shape++;
    this.nodes.set(n.id, n);
    this.known.set(n.id, seq);
    this.list = undefined;
  }

  private remove(id: string, seq: number): void {
    this.known.set(id, seq);
    if (!this.nodes.delete(id)) return;
    this.shape++;
    this.list = undefined;
  }
}
