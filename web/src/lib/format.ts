import { signal } from "@preact/signals";

/** now ticks each second, for durations of what is still running. It reads the clock and nothing else. */
export const now = signal(Date.now());

export function startClock(): void {
  window.setInterval(() => { if (!document.hidden) now.value = Date.now(); }, 1000);
}

/** ms gives the time of a timestamp, or NaN for none. Go's zero time counts as none. */
export function ms(t?: string | null): number {
  if (!t || t.startsWith("0001-")) return NaN;
  return Date.parse(t);
}

/** duration says a length of time in two units at most: "2m 5s". */
export function duration(millis: number): string {
  if (!Number.isFinite(millis)) return "";
  if (millis < 0) millis = 0;
  if (millis < 1000) return `${Math.round(millis)}ms`;
  const s = Math.floor(millis / 1000);
  if (s < 10) return `${(millis / 1000).toFixed(1)}s`;
  if (s < 60) return `${s}s`;
  const m = Math.floor(s / 60);
  if (m < 60) return s % 60 ? `${m}m ${s % 60}s` : `${m}m`;
  const h = Math.floor(m / 60);
  if (h < 24) return m % 60 ? `${h}h ${m % 60}m` : `${h}h`;
  const d = Math.floor(h / 24);
  return h % 24 ? `${d}d ${h % 24}h` : `${d}d`;
}

/** took is how long something ran, until at if it still runs. */
export function took(from?: string | null, to?: string | null, at = Date.now()): string {
  const a = ms(from), b = ms(to);
  return Number.isNaN(a) ? "" : duration((Number.isNaN(b) ? Math.max(at, a) : b) - a);
}

/** ago says how long ago a time is, in one unit. */
export function ago(t: string | undefined | null, at: number): string {
  const v = ms(t);
  if (Number.isNaN(v)) return "";
  const s = Math.round((at - v) / 1000);
  if (s < -5) return "in " + coarse(-s);
  return s < 5 ? "just now" : coarse(s) + " ago";
}

function coarse(s: number): string {
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m`;
  if (s < 86_400) return `${Math.floor(s / 3600)}h`;
  return `${Math.floor(s / 86_400)}d`;
}

/** full writes a time for a tooltip. */
export function full(t?: string | null): string {
  const v = ms(t);
  return Number.isNaN(v) ? "" : new Date(v).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

/** short shortens a commit or a digest; other words stay. */
export function short(s?: string): string {
  if (!s) return "";
  if (/^[0-9a-f]{40}$|^[0-9a-f]{64}$/.test(s)) return s.slice(0, 8);
  const at = s.indexOf("sha256:");
  return at >= 0 ? s.slice(at + 7, at + 19) : s;
}

/** web gives an address back only if it is http or https, so that data can make no other kind of link. */
export function web(s?: string): string | undefined {
  if (!s) return undefined;
  try {
    const u = new URL(s);
    return u.protocol === "http:" || u.protocol === "https:" ? u.href : undefined;
  } catch { return undefined; }
}

/** plural says "1 run", "2 runs". */
export const plural = (n: number, one: string, many = one + "s") => `${n} ${n === 1 ? one : many}`;

/** repoName takes the name of a repository from its URL or gives it as it is. */
export function repoName(s?: string): string {
  return (s ?? "").replace(/^https?:\/\/[^/]+\/(git\/)?/, "").replace(/\.git$/, "");
}
