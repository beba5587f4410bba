import { describe, expect, it } from "vitest";
import { matches } from "../lib/live";
import type { Node, Row, Run } from "../lib/types";
import { draw, readable } from "./draw";
import { link } from "./link";
import { shape, tree } from "./model";
import { RunStore } from "./store";

const node = (id: string, more: Partial<Node> = {}): Node => ({ id, name: id, displayName: id, type: "Pod", phase: "Running", ...more });
const run: Run = { uid: "u", namespace: "d", name: "r", createdAt: "", phase: "Running" };
const row = (id: string, seq: number, more: Partial<Node> = {}): Row => ({ table: "node", key: `d/r/${id}`, owner: "d/r", seq, body: node(id, more) });
const gone = (id: string, seq: number): Row => ({ table: "node", key: `d/r/${id}`, owner: "d/r", seq, deleted: true });
const phases = (s: RunStore) => Object.fromEntries(s.all().map((n) => [n.id, n.phase]));

describe("RunStore", () => {
  it("keeps the newest of each node, in whatever order pages and changes come", () => {
    const s = new RunStore();
    s.begin({ run, nodes: [node("a", { order: 1 })], seq: 10 });
    s.take("d/r", [row("b", 12, { phase: "Succeeded", order: 2 }), row("a", 9, { phase: "Failed" })]);
    s.page({ items: [node("b", { order: 2 }), node("c", { order: 3 })], seq: 11 });
    expect(phases(s)).toEqual({ a: "Running", b: "Succeeded", c: "Running" });
    s.page({ items: [node("c", { order: 3, phase: "Failed" })], seq: 20 });
    s.take("d/r", [row("c", 15, { phase: "Pending", order: 3 }), row("x", 30)]);
    expect(phases(s)).toEqual({ x: "Running", a: "Running", b: "Succeeded", c: "Failed" });
  });
  it("does not bring back what is gone, and forgets what a new reading has not", () => {
    const s = new RunStore();
    s.begin({ run, nodes: [node("a"), node("b")], seq: 10 });
    s.take("d/r", [gone("b", 12)]);
    s.page({ items: [node("b")], seq: 11 });
    expect(Object.keys(phases(s))).toEqual(["a"]);
    s.end();
    s.begin({ run, nodes: [node("c")], seq: 20 });
    s.take("d/r", [row("n", 21)]);
    s.end();
    expect(Object.keys(phases(s))).toEqual(["c", "n"]);
  });
  it("counts changes of the shape, not of phases, and says when the run is gone", () => {
    const s = new RunStore();
    s.begin({ run, nodes: [node("a"), node("b", { parent: "a" })], seq: 10 });
    const before = s.shape;
    expect(s.take("d/r", [row("a", 11, { phase: "Failed" }), { table: "run", key: "d/r", seq: 11, body: { ...run, phase: "Failed" } }])).toBe(false);
    expect([s.shape, s.run?.phase, s.all()[0]!.children]).toEqual([before, "Failed", ["b"]]);
    s.take("d/r", [row("c", 12, { parent: "a" })]);
    expect(s.shape).toBe(before + 1);
    expect(s.take("d/r", [{ table: "run", key: "d/r", seq: 13, deleted: true }])).toBe(true);
  });
});

describe("link", () => {
  // The expected graphs are those that the server's own linking gives (workflow/view.go, after Argo's getOutboundNodes).
  it("hangs steps on the groups, and a group on the last nodes of the one before", () => {
    const nodes = [
      node("r", { type: "Steps" }), node("g0", { type: "StepGroup", parent: "r" }), node("a", { parent: "g0" }), node("b", { parent: "g0" }),
      node("g1", { type: "StepGroup", parent: "r", after: ["g0"] }), node("c", { parent: "g1" }),
    ];
    expect(Object.fromEntries(link(nodes))).toEqual({ r: ["g0"], g0: ["a", "b"], a: ["g1"], b: ["g1"], g1: ["c"] });
  });
  it("hangs a task on the sinks of the DAG before it, and on the last attempt of a retry", () => {
    const nodes = [
      node("r", { type: "DAG" }), node("d", { type: "DAG", parent: "r" }), node("x", { parent: "d" }), node("y", { parent: "d", after: ["x"] }),
      node("t", { type: "Retry", parent: "r", after: ["d"] }), node("t0", { parent: "t" }), node("t1", { parent: "t" }), node("z", { parent: "r", after: ["t"] }),
    ];
    expect(Object.fromEntries(link(nodes))).toEqual({ r: ["d"], d: ["x"], x: ["y"], y: ["t"], t: ["t0", "t1"], t1: ["z"] });
  });
  it("leaves hooks out of what comes after, and hangs the run's own on its first node", () => {
    const nodes = [
      node("w", { type: "Steps", name: "w" }), node("g", { type: "StepGroup", parent: "w" }), node("a", { parent: "g" }), node("h", { parent: "g", nodeFlag: { hooked: true } }),
      node("g1", { type: "StepGroup", parent: "w", after: ["g"] }), node("k", { name: "w.hooks.running", nodeFlag: { hooked: true } }),
    ];
    expect(Object.fromEntries(link(nodes))).toEqual({ w: ["g", "k"], g: ["a", "h"], a: ["g1"] });
  });
});

describe("matches", () => {
  it("tells whole tables from one thing's rows", () => {
    expect(matches(["run", "node@d/r"], { table: "run", key: "x", seq: 1 })).toBe(true);
    expect(matches(["node@d/r"], row("a", 1))).toBe(true);
    expect(matches(["node@d/q"], row("a", 1))).toBe(false);
    expect(matches(["run@d/r"], { table: "run", key: "d/r", seq: 1 })).toBe(true);
    expect(matches(["node@d/q"], { table: "node", key: "d/q/1", seq: 1, deleted: true })).toBe(true);
  });
});

describe("a run of 14,000 steps", () => {
  const loop = [node("r", { type: "Steps" }), node("g", { type: "StepGroup", parent: "r" })];
  for (let i = 0; i < 14_000; i++) loop.push(node(`n${i}`, { displayName: `work(${i}:x)`, parent: "g", boundaryID: "r", order: i + 2 }));
  it("is a few boxes as a loop, whatever they come after as tasks of one template, and a list where all differ", () => {
    const s = new RunStore();
    s.begin({ run, nodes: loop, seq: 1 });
    expect(draw({ id: 1, nodes: s.all(), open: [] }).items.map((i) => i.members?.length ?? 1)).toEqual([1, 1, 14_000]);
    expect(tree(s.all(), new Set()).map((l) => l.item.members?.length ?? 1)).toEqual([1, 14_000]);
    const tasks = (template: (i: number) => string) => [node("r", { type: "DAG" }), ...Array.from({ length: 14_000 }, (_, i) => node(`t${i}`, { templateName: template(i), boundaryID: "r", children: i % 3 ? [`t${i + 1}`] : [] }))];
    // Two stacks of those that begin at once, two of those that come after others, and the root.
    expect(shape(tasks((i) => `k${i % 2}`), new Set()).items.length).toBe(5);
    const different = draw({ id: 1, nodes: tasks((i) => `k${i}`), open: [] });
    expect([different.items.length, different.right, different.boxes > readable]).toEqual([0, undefined, true]);
  });
});
