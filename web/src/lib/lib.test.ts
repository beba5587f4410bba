import { describe, expect, it } from "vitest";
import { spans, strip } from "./ansi";
import { ago, duration, short, web } from "./format";
import { firstError, parseRange, writeRange } from "./logbook";
import { match } from "./paths";

describe("web", () => {
  it("takes http and https only", () => {
    expect(web("http://mr-1.harbour.localhost:7470/")).toBe("http://mr-1.harbour.localhost:7470/");
    for (const bad of ["javascript:alert(1)", " javascript:alert(1)", "data:text/html,x", "//x", "file:///etc/passwd", "", undefined, "JaVaScRiPt:alert(1)"]) expect(web(bad)).toBeUndefined();
  });
});

describe("spans", () => {
  it("cuts at colours and drops other sequences", () => {
    expect(spans("\x1b[31merr\x1b[0m ok")).toEqual([{ text: "err", cls: "f-red" }, { text: " ok", cls: "" }]);
    expect(spans("\x1b[1;4;38;5;9mx\x1b[22my")).toEqual([{ text: "x", cls: "f-red-hi a-bold a-underline" }, { text: "y", cls: "f-red-hi a-underline" }]);
    expect(strip("\x1b[2K\x1b]8;;http://x\x07link\x1b]8;;\x07")).toBe("link");
    expect(strip("10%\r50%\r100%\r")).toBe("100%");
    expect(spans("\x1b[38;2;250;20;20mx")[0]!.cls).toBe("f-red");
  });
  it("keeps markup as text", () => {
    expect(spans("<b>x</b>")).toEqual([{ text: "<b>x</b>", cls: "" }]);
  });
});

describe("ranges of lines", () => {
  it("are read and written", () => {
    expect(parseRange("#L20-L10")).toEqual({ from: 10, to: 20 });
    expect(parseRange("#L7")).toEqual({ from: 7, to: 7 });
    expect(parseRange("#x")).toBeNull();
    expect(writeRange({ from: 10, to: 20 })).toBe("#L10-L20");
  });
});

describe("firstError", () => {
  it("finds the line that tells why", () => {
    expect(firstError(["ok", "--- FAIL: TestX", "    x.go:1: \x1b[31merror: want 1, got 2\x1b[0m", "FAIL", "FAIL\tpkg", "exit status 1"])).toBe(2);
    expect(firstError(["an old error: something else", ...Array<string>(20).fill("ok"), "fatal: no such ref here", "bye"])).toBe(21);
    expect(firstError(["0 errors", "no error", "fine"])).toBe(-1);
  });
});

describe("format", () => {
  it("says durations in two units", () => {
    expect([450, 4200, 42_000, 125_000, 7_260_000, 90_000_000].map(duration)).toEqual(["450ms", "4.2s", "42s", "2m 5s", "2h 1m", "1d 1h"]);
  });
  it("shortens commits and digests, not names", () => {
    expect(short("a".repeat(40))).toBe("aaaaaaaa");
    expect(short("harbour/api@sha256:" + "b".repeat(64))).toBe("b".repeat(12));
    expect(short("main")).toBe("main");
  });
  it("takes Go's zero time for none", () => {
    expect(ago("0001-01-01T00:00:00Z", Date.now())).toBe("");
  });
});

describe("match", () => {
  it("binds segments, escaped slashes too", () => {
    expect(match("/mrs/:repo/:number", "/mrs/team%2Fharbour/1")).toEqual({ repo: "team/harbour", number: "1" });
    expect(match("/runs", "/runs/x")).toBeNull();
    expect(match("/runs/:a", "/runs/%")).toEqual({ a: "%" });
  });
});
