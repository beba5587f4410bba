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
/** actorOf reads an actor of the ledger as people say it: "step:default/x/x-123" is the run x, with the step's address. */
export function actorOf(actor = ""): { words: string; href?: string; title: string } {
  const [, kind = "", rest = ""] = /^([a-z]+):(.*)$/.exec(actor) ?? [];
  const [ns = "", name = "", node] = rest.split("/");
  const title = actor;
  switch (kind) {
    case "user": return { words: rest.replace(/ \(unverified\)$/, ""), title };
    case "step": return { words: name || rest, href: name ? runPath(ns, name) + (node ? `?node=${seg(node)}` : "") : undefined, title };
    case "sensor": return { words: `sensor ${name || rest}`, href: name ? `/definitions/Sensor/${seg(ns)}/${seg(name)}` : undefined, title };
    case "": return { words: actor, title };
  }
  return { words: `${kind} ${rest}`, title };
}

export const seqPath = (seq: number) => `/trail?seq=${seq}`;
