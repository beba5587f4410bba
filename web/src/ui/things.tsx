import { actorOf, appPath, mrPath, runPath, trailPath } from "../lib/router";
import type { App, MR, Run } from "../lib/types";
import { Glyph, toneOf } from "./status";
import { Ago, Out, Sha, Took } from "./parts";

const own = "tiphys.dev/";

/** gitOf picks what a run's labels say about where it comes from. */
export function gitOf(labels: Record<string, string> = {}) {
  const l = (k: string) => labels[own + k] ?? "";
  return { repo: l("repo"), branch: l("branch"), tag: l("tag"), commit: l("commit") || l("sha"), mr: l("mr") };
}

/** Who is an actor in words: a person, or the run or sensor that did it, linked. */
export function Who({ of }: { of?: string }) {
  const { words, href, title } = actorOf(of);
  if (!words) return null;
  return href ? <a href={href} title={title}>{words}</a> : <span title={title}>{words}</span>;
}

/** From says in one line where a run comes from: repository, branch, commit, merge request. */
export function From({ labels, links = false, event }: { labels?: Record<string, string>; links?: boolean; event?: number }) {
  const g = gitOf(labels);
  if (!g.repo && !g.branch && !g.commit) {
    const cron = labels?.[own + "cron"] ?? labels?.["workflows.argoproj.io/cron-workflow"];
    return <span class="from">{cron ? `by schedule ${cron}` : event ? "by an event" : "by hand"}</span>;
  }
  const ref = g.branch || g.tag;
  return (
    <span class="from">
      {g.repo && (links ? <a href={`/runs?label=${encodeURIComponent(own + "repo=" + g.repo)}`}>{g.repo}</a> : <span>{g.repo}</span>)}
      {ref && <span class="ref">{ref}</span>}
      {g.commit && (links ? <a href={trailPath("commit/" + g.commit)}><Sha of={g.commit} /></a> : <Sha of={g.commit} />)}
      {g.mr && g.mr !== "0" && (links && g.repo ? <a href={mrPath(g.repo, g.mr)} class="mrref">!{g.mr}</a> : <span class="mrref">!{g.mr}</span>)}
    </span>
  );
}

/** phaseOf is what to show for a run: a suspended one, or one with a suspended step, waits for somebody. */
export const phaseOf = (r: Run) => ((r.suspended || r.waitsFor) && r.phase === "Running" ? "Suspended" : r.phase || "Pending");

/** whyOf says in one line what is wrong with a run, or what it waits for: the step, and what it says. */
export function whyOf(r: Run): string {
  if (r.failure) return [r.failure.name === r.name ? "" : r.failure.name, r.failure.message || r.message].filter(Boolean).join(": ");
  if (r.waitsFor) return `${r.waitsFor.name} waits to be resumed`;
  return toneOf(r.phase) === "bad" ? r.message ?? "" : "";
}

/** Progress is "2/3" as a bar with its words. */
export function Progress({ of, state }: { of?: string; state?: string }) {
  const [done, total] = (of ?? "").split("/").map(Number);
  if (!total) return null;
  return (
    <span class="progress" title={`${done} of ${total} steps done`}>
      <i class={`t-${toneOf(state)}`}><b style={{ width: `${Math.round((100 * (done ?? 0)) / total)}%` }} /></i>
      <span class="num">{of}</span>
    </span>
  );
}

/** RunRow is a run in a list. */
export function RunRow({ run }: { run: Run }) {
  const phase = phaseOf(run);
  const why = whyOf(run);
  return (
    <a class="row runrow" data-row href={runPath(run.namespace, run.name)}>
      <Glyph state={phase} size={18} />
      <span class="c-name"><b>{run.name}</b><From labels={run.labels} event={run.event} />{why && <span class={`why t-${toneOf(phase)} word`}>{why}</span>}</span>
      <span class="c-progress"><Progress of={run.progress} state={phase} /></span>
      <span class="c-when"><Ago t={run.startedAt ?? run.createdAt} /></span>
      <span class="c-took">{run.startedAt ? <Took from={run.startedAt} to={run.finishedAt} /> : <span class="faint">not begun</span>}</span>
    </a>
  );
}

/** versionOf names what an application runs: the release's version, or the release where its version is only its number. */
export function versionOf(a: App): string {
  const n = a.release?.number;
  return n && (!a.version || a.version === String(n)) ? `${a.release!.name} #${n}` : a.version ?? "";
}

/** MRRef is the number of a merge request, linked where its repository is known. */
export function MRRef({ repo, number, children }: { repo?: string; number?: number; children?: preact.ComponentChildren }) {
  if (!number) return null;
  const words = <><span class="mrref">!{number}</span>{children && <> {children}</>}</>;
  return repo ? <a href={mrPath(repo, number)}>{words}</a> : words;
}

/** AppCard is what runs in one place. */
export function AppCard({ app }: { app: App }) {
  const v = versionOf(app);
  const images = Object.entries(app.images ?? {});
  return (
    <article class={app.deleted ? "card appcard gone" : "card appcard"}>
      <div class="cardtop">
        <Glyph state={app.deleted ? "Missing" : app.health?.status} size={18} />
        <a class="title" data-row href={appPath(app.namespace, app.name)}>{app.name}</a>
        <span class="grow" />
        {app.sync && app.sync !== "Synced" && <span class={`t-${toneOf(app.sync)} word`}>{app.sync}</span>}
        <span class={`t-${toneOf(app.health?.status)} word`}>{app.deleted ? "Deleted" : app.health?.status ?? "Unknown"}</span>
      </div>
      {app.preview?.title && <div class="ptitle">{app.preview.title}</div>}
      <div class="meta">
        {v && <b>{v}</b>}
        {(app.commit || app.revision) && <Sha of={app.commit || app.revision} />}
        <MRRef repo={app.preview?.repo} number={app.mr} />
        <span>{app.preview && !v ? "opened" : "deployed"} <Ago t={app.since} /></span>
      </div>
      {app.health?.message && app.health.status !== "Healthy" && <p class={`why t-${toneOf(app.health.status)} word`}>{app.health.message}</p>}
      {app.message && app.message !== app.health?.message && <p class="why t-bad word">{app.message}</p>}
      {!!app.urls?.length && <div class="urls">{app.urls.map((u) => <Out key={u} href={u} />)}</div>}
      {images.length > 0 && <div class="images">{images.map(([name, image]) => <span key={name} title={image}>{name} <Sha of={image} /></span>)}</div>}
    </article>
  );
}

/** mrState is the one word for a merge request. */
export const mrState = (m: MR) => (m.state === "open" && m.draft ? "draft" : m.state);

/** MRRow is a merge request in a list, with its preview if it has one. */
export function MRRow({ mr, preview }: { mr: MR; preview?: App }) {
  const url = preview?.urls?.[0];
  return (
    <div class="row mrrow">
      <Glyph state={mr.state === "open" && mr.draft ? "draft" : mr.state} title={mrState(mr)} size={18} />
      <span class="c-name">
        <a data-row href={mrPath(mr.repo, mr.number)}><b>{mr.title || `Merge request ${mr.number}`}</b></a>
        <span class="from"><span>{mr.repo}</span><span class="mrref">!{mr.number}</span><span class="ref">{mr.source}</span><span class="faint">→ {mr.target}</span></span>
        {!!mr.labels?.length && <span class="labels">{mr.labels.map((l) => <span class="label" key={l}>{l}</span>)}</span>}
        {mr.conflicts && mr.state === "open" && <span class="why t-warn word">has conflicts with {mr.target}</span>}
      </span>
      <span class="c-preview">{preview && <><Glyph state={preview.health?.status} /> {url ? <Out href={url} /> : <a href={appPath(preview.namespace, preview.name)}>preview</a>}</>}</span>
      <span class="c-when"><Ago t={mr.mergedAt ?? mr.updatedAt ?? mr.createdAt} /></span>
    </div>
  );
}

/** previewsBy finds the preview of a merge request among the applications. */
export function previewsBy(apps: App[] = []): (m: MR) => App | undefined {
  return (m) => apps.find((a) => a.preview && !a.deleted && a.preview.mr === m.number && (a.preview.repo ? sameRepo(a.preview.repo, m.repo) : named(a, m.repo)));
}

// Numbers repeat between repositories: a preview that does not name its own must at least be called after it.
const named = (a: App, repo: string) => `${a.name} ${(a.urls ?? []).join(" ")}`.includes(repo.replace(/^.*\//, ""));

function sameRepo(a: string, b: string): boolean {
  const bare = (s: string) => s.replace(/\.git$/, "").replace(/^.*\//, "");
  return a === b || bare(a) === bare(b);
}
