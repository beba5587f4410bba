/** match compares a path with a pattern like "/runs/:namespace/:name"; a last ":name*" takes the rest. */
export function match(pattern: string, path: string): Record<string, string> | null {
  const want = pattern.split("/").filter(Boolean);
  const have = path.split("/").filter(Boolean);
  const out: Record<string, string> = {};
  for (let i = 0; i < want.length; i++) {
    const w = want[i]!;
    if (w.endsWith("*")) {
      out[w.slice(1, -1)] = have.slice(i).map(decode).join("/");
      return have.length > i ? out : null;
    }
    const h = have[i];
    if (h === undefined) return null;
    if (w.startsWith(":")) out[w.slice(1)] = decode(h);
    else if (w !== h) return null;
  }
  return want.length === have.length ? out : null;
}

function decode(s: string): string {
  try { return decodeURIComponent(s); } catch { return s; }
}

/** seg escapes one segment of a path. */
export const seg = encodeURIComponent;

export const runPath = (ns: string, name: string) => `/runs/${seg(ns)}/${seg(name)}`;
export const appPath = (ns: string, name: string) => `/apps/${seg(ns)}/${seg(name)}`;
export const mrPath = (repo: string, n: number | string) => `/mrs/${seg(repo)}/${n}`;
export const eventPath = (id: string) => `/events/${seg(id)}`;
export const trailPath = (of: string) => `/trail?of=${encodeURIComponent(of)}`;
export const seqPath = (seq: number) => `/trail?seq=${seq}`;
