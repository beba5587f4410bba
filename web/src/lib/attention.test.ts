import { describe, expect, it } from "vitest";
import { attention, troubled } from "./attention";

describe("what needs attention", () => {
  it("has services with one reason as one, and nothing that is said elsewhere", () => {
    const services = [
      { name: "events", state: "waiting", reason: "held since noon after a restore" },
      { name: "quarantine", state: "waiting", reason: "1 items are quarantined" },
      { name: "runs", state: "failing", reason: "the disk is full" },
      { name: "posts", state: "failing", reason: "the disk is full" },
      { name: "git", state: "running" },
    ];
    expect(troubled(services).map((s) => `${s.name}: ${s.reason}`)).toEqual(["runs, posts: the disk is full"]);
  });
  it("begins with what ended the server, and says what to do", () => {
    const all = attention([], [], [], [], [{ name: "runs", state: "failing", reason: "the disk is full" }], [{ kind: "run", key: "default/x", why: "panic: y", deaths: 2 }]);
    expect(all.map((m) => m.href)).toEqual(["/runs/default/x", "/api/v1/services"]);
    expect(all[0]?.why).toContain("tiphys quarantine retry 'run/default/x'");
  });
  it("has commits that wait for an approval, with the event to approve", () => {
    const all = attention([], [], [], [], [], [], [{ key: "github x", repo: "fleet/harbour", number: 4, author: "mallory", sha: "1".repeat(40), event: "e1" }]);
    expect(all.map((m) => `${m.href} ${m.what}: ${m.why}`)).toEqual(["/events/e1 fleet/harbour !4: commit 1111111111 of mallory, who may not write to the repository, waits for an approval"]);
  });
});
