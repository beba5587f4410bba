import { appPath, eventPath, mrPath, runPath } from "./paths";
import type { App, Approval, Firing, MR, Quarantined, Run, Service } from "./types";

/** Matter is one thing that needs somebody, and the page where it is seen. */
export interface Matter { state: string; href: string; what: string; why: string; since?: string }

/**
 * troubled are the services that cannot do all of their work, those with one reason as one. That a server is held the banner says, and
 * what is quarantined has rows of its own.
 */
export function troubled(services: Service[]): Service[] {
  const by = new Map<string, Service>();
  for (const s of services) {
    if (!s.reason || s.reason.startsWith("held since") || s.name === "quarantine") continue;
    const same = by.get(s.state + s.reason);
    by.set(s.state + s.reason, same ? { ...same, name: `${same.name}, ${s.name}` } : s);
  }
  return [...by.values()];
}

/** attention gathers what does not go on without a person, the worst first. */
export function attention(apps: App[], running: Run[], mrs: MR[], dead: Firing[], services: Service[], out: Quarantined[] = [], waiting: Approval[] = []): Matter[] {
  const ill = apps.filter((a) => !a.deleted && (a.health?.status === "Degraded" || (a.message && !a.preview)));
  return [
    ...out.map((q) => ({ state: "Error", href: quarantinePath(q), what: `${q.kind} ${q.key}`, why: `is left out, because it ended the server (${q.why}): tiphys quarantine retry '${q.kind}/${q.key}'`, since: q.since })),
    ...troubled(services).map((s) => ({ state: s.state === "failing" ? "Degraded" : "Suspended", href: "/api/v1/services", what: s.name, why: s.reason ?? "", since: s.since })),
    ...ill.sort((a, b) => Number(!!a.preview) - Number(!!b.preview)).map((a) => ({ state: "Degraded", href: appPath(a.namespace, a.name), what: a.name, why: a.message || a.health?.message || "degraded", since: a.since })),
    ...dead.map((f) => ({ state: "dead", href: "/events", what: `${f.sensor ?? "sensor"} → ${f.trigger ?? ""}`, why: f.error || f.message || "could not be delivered", since: f.firedAt })),
    ...waiting.map((a) => ({ state: "unapproved", href: eventPath(a.event), what: a.repo ? `${a.repo} !${a.number}` : a.key, why: `commit ${a.sha.slice(0, 10)} of ${a.author || "somebody"}, who may not write to the repository, waits for an approval` })),
    ...running.filter((r) => r.waitsFor || r.suspended).map((r) => ({ state: "Suspended", href: runPath(r.namespace, r.name), what: r.name, why: r.waitsFor ? `${r.waitsFor.name} waits for somebody to let it go on` : "is suspended", since: r.startedAt })),
    ...mrs.filter((m) => m.conflicts).map((m) => ({ state: "Missing", href: mrPath(m.repo, m.number), what: `${m.repo} !${m.number}`, why: `has conflicts with ${m.target}`, since: m.updatedAt })),
  ];
}

/** quarantinePath is the page of what an item is of. */
function quarantinePath(q: Quarantined): string {
  const [namespace = "", name = ""] = (q.key.split("@")[0] ?? "").split("/");
  switch (q.kind) {
    case "run": return runPath(namespace, name);
    case "application": return appPath(namespace, name);
    case "applicationset": return "/apps";
    case "cron": return "/runs";
    case "definition": return "/definitions";
  }
  return "/events";
}
