import { lines } from "./api";

/** cap is how many lines a browser keeps of one log; of a longer one the start and the end are kept. */
export const cap = 100_000;
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
      await lines(address({ from: 0, follow }), first.signal, (more) => {
        this.add(more);
        if (this.lines.length >= cap) first.abort();
      });
    } catch (e) {
      if (!first.signal.aborted || signal.aborted) throw e;
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

/** firstError is the index of the line that most likely says why something failed: the first of the last block. */
export function firstError(lines: string[]): number {
  for (let i = lines.length - 1, end = Math.max(0, lines.length - 400); i >= end; i--) {
    if (!isError(lines[i]!)) continue;
    while (i > end && isError(lines[i - 1]!)) i--;
    return i;
  }
  return -1;
}

/** isError tells whether a line looks like an error. */
export const isError = (l: string) => wrong.test(l) && !harmless.test(l);
