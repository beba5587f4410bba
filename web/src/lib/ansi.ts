/** Span is a piece of a line in one style. */
export interface Span { text: string; cls: string }

const names = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];

interface Style { fg: string; bg: string; bold: boolean; dim: boolean; italic: boolean; underline: boolean; inverse: boolean }

const plain: Style = { fg: "", bg: "", bold: false, dim: false, italic: false, underline: false, inverse: false };

// CSI sequences, OSC sequences (titles, links) and lone escapes. Only SGR ("m") changes anything here.
const escape = /\x1b\[([0-9;:]*)([ -/]*[@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]?/g;

/** spans cuts a line with ANSI colours (ECMA-48 SGR) into styled pieces. Other control sequences are dropped. */
export function spans(line: string): Span[] {
  line = overwritten(line);
  if (!line.includes("\x1b")) return [{ text: line, cls: "" }];
  const out: Span[] = [];
  let style = plain, from = 0;
  const add = (text: string) => { if (text) out.push({ text, cls: classes(style) }); };
  for (const m of line.matchAll(escape)) {
    add(line.slice(from, m.index));
    from = m.index + m[0].length;
    if (m[2] === "m") style = sgr(style, m[1] ?? "");
  }
  add(line.slice(from));
  return out;
}

/** strip gives the words of a line without its colours. */
export function strip(line: string): string {
  return overwritten(line).replace(escape, "");
}

// A progress bar writes over its line after a carriage return; what was written last is what a terminal shows.
function overwritten(line: string): string {
  if (line.endsWith("\r")) line = line.slice(0, -1);
  const cr = line.lastIndexOf("\r");
  return cr < 0 ? line : line.slice(cr + 1);
}

function classes(s: Style): string {
  const out = [];
  if (s.fg) out.push("f-" + s.fg);
  if (s.bg) out.push("b-" + s.bg);
  if (s.bold) out.push("a-bold");
  if (s.dim) out.push("a-dim");
  if (s.italic) out.push("a-italic");
  if (s.underline) out.push("a-underline");
  if (s.inverse) out.push("a-inverse");
  return out.join(" ");
}

function sgr(s: Style, codes: string): Style {
  s = { ...s };
  const list = codes === "" ? [0] : codes.split(/[;:]/).map(Number);
  for (let i = 0; i < list.length; i++) {
    const c = list[i]!;
    if (c === 0) s = { ...plain };
    else if (c === 1) s.bold = true;
    else if (c === 2) s.dim = true;
    else if (c === 3) s.italic = true;
    else if (c === 4) s.underline = true;
    else if (c === 7) s.inverse = true;
    else if (c === 22) s.bold = s.dim = false;
    else if (c === 23) s.italic = false;
    else if (c === 24) s.underline = false;
    else if (c === 27) s.inverse = false;
    else if (c >= 30 && c <= 37) s.fg = names[c - 30]!;
    else if (c === 39) s.fg = "";
    else if (c >= 40 && c <= 47) s.bg = names[c - 40]!;
    else if (c === 49) s.bg = "";
    else if (c >= 90 && c <= 97) s.fg = names[c - 90]! + "-hi";
    else if (c >= 100 && c <= 107) s.bg = names[c - 100]! + "-hi";
    else if (c === 38 || c === 48) {
      const [name, used] = wide(list.slice(i + 1));
      if (c === 38) s.fg = name;
      else s.bg = name;
      i += used;
    }
  }
  return s;
}

// Of 256 and true colours the nearest of the sixteen is shown: those have a readable contrast in both themes.
function wide(rest: number[]): [string, number] {
  if (rest[0] === 2) return [nearest(rest[1] ?? 0, rest[2] ?? 0, rest[3] ?? 0), 4];
  if (rest[0] !== 5) return ["", 0];
  const n = rest[1] ?? 0;
  if (n < 8) return [names[n]!, 2];
  if (n < 16) return [names[n - 8]! + "-hi", 2];
  if (n >= 232) return [n < 244 ? "black-hi" : "", 2];
  const k = n - 16;
  return [nearest(Math.floor(k / 36) * 51, (Math.floor(k / 6) % 6) * 51, (k % 6) * 51), 2];
}

function nearest(r: number, g: number, b: number): string {
  const top = Math.max(r, g, b);
  if (top - Math.min(r, g, b) < 40) return top < 140 ? "black-hi" : "";
  const bit = (v: number, i: number) => (v > top * 0.6 ? i : 0);
  return names[bit(r, 1) | bit(g, 2) | bit(b, 4)]!;
}
