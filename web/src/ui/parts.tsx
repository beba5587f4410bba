import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { Failure } from "../lib/api";
import { ago, full, now, short, took, web } from "../lib/format";
import type { Loaded } from "../lib/load";

/** Ago is a time as people say it, with the exact one on hover. */
export function Ago({ t }: { t?: string | null }) {
  const words = ago(t, now.value);
  return words ? <time class="ago" dateTime={t ?? ""} title={full(t)}>{words}</time> : <span class="faint">–</span>;
}

/** Took is a length of time that grows while there is no end. */
export function Took({ from, to }: { from?: string | null; to?: string | null }) {
  return <span class="num">{took(from, to, now.value) || "–"}</span>;
}

/** Out is a link out of the app, if the address is http or https; otherwise the words alone. */
export function Out({ href, children }: { href?: string; children?: ComponentChildren }) {
  const safe = web(href);
  const words = children ?? (href ?? "").replace(/^https?:\/\//, "").replace(/\/$/, "");
  if (!safe) return <span>{words}</span>;
  return <a href={safe} target="_blank" rel="noopener noreferrer" class="out">{words}<span class="faint" aria-hidden="true"> ↗</span></a>;
}

/** Sha is a commit or digest, short, whole on hover. */
export function Sha({ of }: { of?: string }) {
  return of ? <code class="sha" title={of}>{short(of)}</code> : <span class="faint">–</span>;
}

/** Problem shows what went wrong and what to do next. */
export function Problem({ error, retry }: { error: Failure; retry?: () => void }) {
  return (
    <div class="note t-bad" role="alert">
      <strong>{error.message}</strong>
      {error.hint && <p>{error.hint}</p>}
      {retry && <button type="button" class="small" onClick={retry}>Try again</button>}
    </div>
  );
}

/** Empty says that there is nothing yet, and what to do to change that. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return <div class="empty"><h2>{title}</h2><div>{children}</div></div>;
}

/** Wait shows a load's error, a quiet placeholder, or the content. The old content stays while new is read. */
export function Wait<T>({ of, children }: { of: Pick<Loaded<T>, "data" | "error" | "reload">; children: (data: T) => ComponentChildren }) {
  return (
    <>
      {of.error && <Problem error={of.error} retry={of.reload} />}
      {of.data !== undefined ? children(of.data) : !of.error && <div class="skeleton" aria-busy="true"><i /><i /><i /><i /></div>}
    </>
  );
}

interface HeadProps { title: ComponentChildren; crumbs?: [string, string][]; sub?: ComponentChildren; children?: ComponentChildren }

/** Head is the top of a screen: where one is, the title, and what can be done. */
export function Head({ title, crumbs, sub, children }: HeadProps) {
  return (
    <header class="head">
      <div class="grow">
        {crumbs && <nav class="crumbs" aria-label="Path">{crumbs.map(([name, href]) => <a href={href} key={href}>{name}</a>)}</nav>}
        <h1>{title}</h1>
        {sub && <div class="sub">{sub}</div>}
      </div>
      {children && <div class="actions">{children}</div>}
    </header>
  );
}

/** Facts is a list of names and values; those without a value are left out. */
export function Facts({ of }: { of: [string, ComponentChildren][] }) {
  const some = of.filter(([, v]) => v !== undefined && v !== null && v !== "" && v !== false);
  return <dl class="facts">{some.map(([k, v]) => <div key={k}><dt>{k}</dt><dd>{v}</dd></div>)}</dl>;
}

interface ActProps { label: string; run: () => Promise<unknown>; done?: () => void; confirm?: string; kind?: "primary" | "danger" | ""; disabled?: boolean; title?: string }

/** Act is a button for a command: it asks first if told to, is busy while it runs, and shows why it failed. */
export function Act({ label, run, done, confirm, kind = "", disabled, title }: ActProps) {
  const [busy, setBusy] = useState(false);
  const [asked, setAsked] = useState(false);
  const [error, setError] = useState<Failure>();
  const act = async () => {
    setAsked(false);
    setBusy(true);
    setError(undefined);
    try {
      await run();
      done?.();
    } catch (e) {
      setError(e instanceof Failure ? e : new Failure(0, String(e)));
    }
    setBusy(false);
  };
  return (
    <span class="act">
      {asked
        ? <><button type="button" class={kind || "primary"} onClick={() => void act()}>{confirm}</button><button type="button" onClick={() => setAsked(false)}>Cancel</button></>
        : <button type="button" class={kind} disabled={busy || disabled} title={title} onClick={() => (confirm ? setAsked(true) : void act())}>{label}</button>}
      {error && <span class="acterror" role="alert"><strong>{error.message}</strong> {error.hint} <button type="button" class="link" onClick={() => setError(undefined)}>dismiss</button></span>}
    </span>
  );
}

/** Copy puts a text on the clipboard. */
export function Copy({ text, label = "Copy" }: { text: string; label?: string }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    try { await navigator.clipboard.writeText(text); setDone(true); window.setTimeout(() => setDone(false), 1500); } catch { /* not allowed here */ }
  };
  return <button type="button" class="small" onClick={() => void copy()}>{done ? "Copied" : label}</button>;
}

const link = /https?:\/\/[^\s<>()"'\]]+[^\s<>()"'\].,;:!?]/g;

/** Prose is text from outside: its words and its http links, never its markup. */
export function Prose({ text }: { text?: string }) {
  const out: ComponentChildren[] = [];
  let from = 0;
  for (const m of (text ?? "").matchAll(link)) {
    out.push(text!.slice(from, m.index), <Out href={m[0]}>{m[0]}</Out>);
    from = m.index + m[0].length;
  }
  out.push((text ?? "").slice(from));
  return <div class="prose">{out}</div>;
}
