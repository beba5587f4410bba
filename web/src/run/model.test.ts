import { describe, expect, it } from "vitest";
import type { Node, Run } from "../lib/types";
import { counts, landing, shape, tree, worst } from "./model";
import { layout } from "./layout";
import { ticks } from "./timeline";

const node = (id: string, more: Partial<Node> = {}): Node => ({ id, name: id, displayName: id, type: "Pod", templateName: "t", phase: "Succeeded", boundaryID: "root", ...more });

function fan(n: number): Node[] {
  const ids = Array.from({ length: n }, (_, i) => `f${i}`);
  return [
    node("root", { type: "DAG", boundaryID: undefined, children: ["a"] }), node("a", { children: ["g"] }), node("g", { type: "TaskGroup", children: ids }),
    ...ids.map((id, i) => node(id, { displayName: `test(${i}:x)`, phase: i === 3 ? "Failed" : "Succeeded", children: ["z"] })), node("z"),
  ];
}

describe("shape", () => {
  it("stacks a fan-out of more than eight, and opens it", () => {
    expect(shape(fan(8), new Set()).items).toHaveLength(12);
    const s = shape(fan(200), new Set());
    expect(s.items.map((i) => i.id)).toEqual(["root", "a", "g", "stack:f0", "z"]);
    expect(s.items[3]!.members).toHaveLength(200);
    expect(s.edges).toEqual([["root", "a"], ["a", "g"], ["g", "stack:f0"], ["stack:f0", "z"]]);
    expect(shape(fan(20), new Set(["stack:f0"])).items).toHaveLength(24);
  });
  it("shows what is inside a stacked node with its stack", () => {
    const nodes = fan(10).map((n) => (n.id.startsWith("f") ? { ...n, type: "Steps", children: [n.id + "i"] } : n));
    for (let i = 0; i < 10; i++) nodes.push(node(`f${i}i`, { boundaryID: `f${i}`, children: ["z"] }));
    const s = shape(nodes, new Set());
    expect(s.items).toHaveLength(5);
    expect(s.items[3]!.members).toHaveLength(10);
  });
  it("folds the deepest levels of a graph that is too big", () => {
    const nodes = [node("root", { type: "DAG", boundaryID: undefined, children: [] as string[] })];
    for (let d = 0; d < 60; d++) {
      nodes[0]!.children!.push(`d${d}`);
      nodes.push(node(`d${d}`, { type: "DAG", templateName: `t${d}`, children: Array.from({ length: 8 }, (_, i) => `d${d}p${i}`) }));
      for (let i = 0; i < 8; i++) nodes.push(node(`d${d}p${i}`, { boundaryID: `d${d}` }));
    }
    expect(shape(nodes, new Set()).items).toHaveLength(61);
  });
  it("is placed without overlaps", () => {
    const p = layout(shape(fan(8), new Set()), "LR");
    const boxes = [...p.boxes.values()];
    for (const a of boxes) for (const b of boxes) if (a !== b) expect(a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y).toBe(true);
  });
});

describe("tree", () => {
  it("nests by boundary and leaves groups out", () => {
    expect(tree(fan(2), new Set()).map((l) => `${l.depth}${l.item.id}`)).toEqual(["0root", "1a", "1f0", "1f1", "1z"]);
  });
  it("puts attempts under their retry", () => {
    const nodes = [node("root", { type: "Retry", boundaryID: undefined, children: ["r0", "r1"] }), node("r0", { displayName: "root(0)", boundaryID: undefined, nodeFlag: { retried: true } }), node("r1", { displayName: "root(1)", boundaryID: undefined, nodeFlag: { retried: true } })];
    expect(tree(nodes, new Set()).map((l) => `${l.depth}${l.item.id}`)).toEqual(["0root", "1r0", "1r1"]);
  });
  it("survives nodes that contain themselves", () => {
    expect(tree([node("a", { boundaryID: "a" })], new Set())).toHaveLength(1);
  });
});

describe("landing", () => {
  const run = (more: Partial<Run>): Run => ({ uid: "u", namespace: "d", name: "r", createdAt: "", ...more });
  it("is the first failure, else what runs, else nothing", () => {
    expect(landing(run({ phase: "Failed", failed: "f3" }), fan(5))).toBe("f3");
    expect(landing(run({ phase: "Failed" }), fan(5))).toBe("f3");
    expect(landing(run({ phase: "Running" }), [node("x", { phase: "Running" })])).toBe("x");
    expect(landing(run({ phase: "Succeeded" }), [node("x")])).toBeUndefined();
  });
});

describe("counts and ticks", () => {
  it("put the worst first and stay few", () => {
    expect(counts(fan(5).slice(3, 8))).toEqual([["Failed", 1], ["Succeeded", 4]]);
    expect(worst(fan(5).slice(3, 8))).toBe("Failed");
    for (const l of [50, 1000, 61_000, 3.6e6, 9e8]) expect(ticks(l).length).toBeLessThanOrEqual(7);
  });
});
