import type { JSX } from "preact";

/** Tone is the meaning of a colour. */
export type Tone = "good" | "bad" | "busy" | "wait" | "warn" | "none" | "merged";

const tones: Record<string, Tone> = {
  succeeded: "good", healthy: "good", synced: "good", success: "good", fired: "good", done: "good", open: "good", passed: "good",
  failed: "bad", error: "bad", degraded: "bad", dead: "bad", failure: "bad", "transform-error": "bad",
  running: "busy", progressing: "busy", pending: "wait", waiting: "wait", suspended: "wait", "rate-limited": "wait", unapproved: "wait",
  outofsync: "warn", missing: "warn", deleting: "warn", closed: "bad", merged: "merged",
};

/** toneOf gives the colour of a state in whichever vocabulary. */
export const toneOf = (state?: string): Tone => tones[(state ?? "").toLowerCase()] ?? "none";

const shapes: Record<Tone, JSX.Element> = {
  good: <path d="M4.5 8.3 7 10.8l4.6-5.3" />,
  bad: <path d="m5.3 5.3 5.4 5.4m0-5.4-5.4 5.4" />,
  busy: <path d="M8 3.6A4.4 4.4 0 0 1 12.4 8" class="spin" />,
  wait: <path d="M8 4.8V8l2.2 1.4" />,
  warn: <path d="M8 4.4v4.4m0 2.6v.2" />,
  none: <path d="M5 8h6" />,
  merged: <path d="M5.5 11.2V4.8m0 0c0 3 5 1.6 5 4.4" />,
};

/** Glyph is a state as a small sign; its shape tells as much as its colour. */
export function Glyph({ state, title, size = 16 }: { state?: string; title?: string; size?: number }) {
  const tone = toneOf(state);
  const name = title ?? (state || "not started");
  return (
    <svg class={`glyph t-${tone}`} width={size} height={size} viewBox="0 0 16 16" role="img" aria-label={name}>
      <title>{name}</title>
      <circle cx="8" cy="8" r="7" />
      {state === "open" || state === "draft" ? shapes.merged : shapes[tone]}
    </svg>
  );
}

/** Badge is a state as a word on its colour. */
export function Badge({ state, tone, children }: { state?: string; tone?: Tone; children?: preact.ComponentChildren }) {
  return <span class={`badge t-${tone ?? toneOf(state)}`}>{children ?? state}</span>;
}

/** State is a glyph and a word. */
export function State({ state, title }: { state?: string; title?: string }) {
  return <span class="state" title={title}><Glyph state={state} /> <span class={`t-${toneOf(state)} word`}>{state || "Unknown"}</span></span>;
}
