import { strip } from "./ansi";
import { Failure, lines } from "./api";

/** cap is how many lines a browser keeps of one log; of a longer one the start and the end are kept. */
export const cap = 150_000;
/** tail is how many lines of the end are read where the whole is too long. */
export const tail = 5_000;

/** Logbook holds a log's lines as they come. Numbers are from 1; after a gap they are unknown. */
export class Logbook {
  lines: string[] = [];
  /** gap is the index of the first line after what was left out, or -1. */
  gap = -1;
  done = false;

  constructor(private readonly changed: () => void) {}

  /** read fills the book; live logs are followed to their end. It resolves when the log ends or signal aborts. */
  async read(address: (q: Record<string, string | number | undefined>) => string, live: boolean, signal: AbortSignal): Promise<void> {
    const first = new AbortController();
    const stop = () => first.abort();
    signal.addEventListener("abort", stop);
    const follow = live ? 1 : undefined;
    try {
      for (let tries = 0; ; tries++) {
        const before = this.lines.length;
        try {
          await lines(address({ from: before, follow }), first.signal, (more) => {
            this.add(more);
            if (this.lines.length >= cap) first.abort();
          });
          break;
        } catch (e) {
          if (first.signal.aborted) { if (signal.aborted) throw e; break; }
          if (this.lines.length > before) tries = 0;
          // A connection that broke goes on from the last whole line; an answer that refuses is final.
          if (tries >= 5 || (e instanceof Failure && e.code > 0)) throw e;
          await new Promise((go) => window.setTimeout(go, 500 * (tries + 1)));
        }
      }
    } finally {
      signal.removeEventListener("abort", stop);
    }
    if (this.lines.length >= cap && !signal.aborted) {
      this.lines.length = cap - tail;
      this.gap = this.lines.length;
      await lines(address({ from: -tail, follow }), signal, (more) => this.add(more));
    }
    this.done = true;
    this.changed();
  }

  private add(more: string[]): void {
    for (const l of more) this.lines.push(l);
    this.changed();
  }
}

/** Range is a choice of lines in an address: "#L10-L20". */
export interface Range { from: number; to: number }

/** parseRange reads a fragment; null if it names no lines. */
export function parseRange(hash: string): Range | null {
  const m = /^#L(\d+)(?:-L?(\d+))?$/.exec(hash);
  if (!m) return null;
  const a = Number(m[1]), b = Number(m[2] ?? m[1]);
  return { from: Math.min(a, b), to: Math.max(a, b) };
}

export const writeRange = (r: Range) => (r.from === r.to ? `#L${r.from}` : `#L${r.from}-L${r.to}`);

const wrong = /(^|[\s:[])(error|fatal|panic|failed|FAIL|exception|undefined reference|cannot|no such file)\b/i;
const harmless = /\b0 (errors|failed|failures)\b|no errors?\b|errors?[:=]\s*0\b/i;

const telling = /(error|panic|fatal|exception)\b.{8,}/i;

/** firstError is the index of the line that most likely says why something failed, or -1: of the last block of wrong lines the first that tells more than "FAIL". */
export function firstError(lines: string[]): number {
  const block: number[] = [];
  for (let i = lines.length - 1, end = Math.max(0, lines.length - 400); i >= end; i--) {
    if (block.length && block[0]! - i > 3) break;
    if (isError(lines[i]!)) block.unshift(i);
  }
  return block.find((i) => telling.test(strip(lines[i]!))) ?? block[0] ?? -1;
}

/** isError tells whether a line looks like an error. */
export function isError(line: string): boolean {
  const l = strip(line);
  return wrong.test(l) && !harmless.test(l);
}
