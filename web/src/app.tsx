import { useEffect, useRef, useState } from "preact/hooks";
import { call, loggedOut } from "./lib/api";
import { useListKeys } from "./lib/keys";
import { connection, trouble } from "./lib/live";
import { match, path, place, setHash } from "./lib/router";
import { nextTheme, theme } from "./lib/theme";
import { AppScreen } from "./screens/app";
import { Apps } from "./screens/apps";
import { DefinitionScreen, Definitions } from "./screens/definitions";
import { EventScreen } from "./screens/event";
import { Events } from "./screens/events";
import { Home } from "./screens/home";
import { MRScreen } from "./screens/mr";
import { MRs } from "./screens/mrs";
import { Repos } from "./screens/repos";
import { Runs } from "./screens/runs";
import { TrailScreen } from "./screens/trail";
import { RunScreen } from "./run/run";
import { Empty } from "./ui/parts";
import { Arrive, codeOf, LoggedOut } from "./login";

type Params = Record<string, string>;

const screens: [string, (p: Params) => preact.JSX.Element][] = [
  ["/", () => <Home />],
  ["/runs", () => <Runs />],
  ["/runs/:namespace/:name", (p) => <RunScreen key={`${p.namespace}/${p.name}`} namespace={p.namespace!} name={p.name!} />],
  ["/apps", () => <Apps />],
  ["/apps/:namespace/:name", (p) => <AppScreen key={`${p.namespace}/${p.name}`} namespace={p.namespace!} name={p.name!} />],
  ["/mrs", () => <MRs />],
  ["/mrs/:repo/:number", (p) => <MRScreen key={`${p.repo}#${p.number}`} repo={p.repo!} number={p.number!} />],
  ["/events", () => <Events />],
  ["/events/:id", (p) => <EventScreen key={p.id} id={p.id!} />],
  ["/trail", () => <TrailScreen />],
  ["/repos", () => <Repos />],
  ["/definitions", () => <Definitions />],
  ["/definitions/:kind/:namespace/:name", (p) => <DefinitionScreen kind={p.kind!} namespace={p.namespace!} name={p.name!} />],
];

const nav: [string, string][] = [
  ["/runs", "Runs"], ["/apps", "Applications"], ["/mrs", "Merge requests"], ["/events", "Events"],
  ["/trail", "Trail"], ["/repos", "Repositories"], ["/definitions", "Definitions"],
];

/** App is the frame around every screen. */
export function App() {
  useListKeys();
  const [code, setCode] = useState("");
  const [error, setError] = useState("");
  const arriving = codeOf(place.value.hash);
  // The code is taken out of the address, where nobody may find it later.
  useEffect(() => { if (arriving) { setCode(arriving); setHash(""); } }, [arriving]);
  if (arriving || code) return <Arrive code={arriving || code} done={(e) => { setError(e); setCode(""); }} />;
  if (loggedOut.value) return <LoggedOut error={error} />;
  return (
    <>
      <a class="skip" href="#main">Skip to content</a>
      <Top />
      {trouble.value && <div class="note t-bad trouble" role="alert">{!trouble.value.startsWith("This server is held") && <strong>Nothing can be recorded. </strong>}{trouble.value}</div>}
      <main id="main">{screen(path.value)}</main>
    </>
  );
}

function screen(at: string) {
  for (const [pattern, show] of screens) {
    const p = match(pattern, at);
    if (p) return show(p);
  }
  return <Empty title="There is nothing at this address"><p>Go to <a href="/">the overview</a>, or to the <a href="/runs">runs</a>.</p></Empty>;
}

function Top() {
  const at = path.value;
  const bar = useRef<HTMLElement>(null);
  // On a phone the links do not all fit; the one of this screen is brought into sight.
  useEffect(() => { bar.current?.querySelector(".on")?.scrollIntoView({ inline: "center", block: "nearest" }); }, [at]);
  const words = { live: "Live: changes appear as they happen", connecting: "Connecting to the server", lost: "No connection: what you see may be old", idle: "" };
  return (
    <div class="top">
      <a href="/" class="brand" aria-label="Tiphys, overview"><Wheel /><span>Tiphys</span></a>
      <nav class="nav" aria-label="Main" ref={bar}>
        {nav.map(([href, name]) => <a key={href} href={href} class={at === href || at.startsWith(href + "/") ? "on" : ""} aria-current={at.startsWith(href) ? "page" : undefined}>{name}</a>)}
      </nav>
      {connection.value !== "idle" && <span class={`live ${connection.value}`} role="status" title={words[connection.value]}><i aria-hidden="true" /><span class="wide">{connection.value === "live" ? "Live" : connection.value === "lost" ? "Offline" : "…"}</span></span>}
      <button type="button" class="theme out" onClick={() => void logOut()} title="Log out" aria-label="Log out">
        <svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true"><path d="M6.5 2.5h-4v11h4M10 5l3 3-3 3M13 8H6" fill="none" stroke="currentColor" stroke-width="1.4" stroke-linecap="round" stroke-linejoin="round" /></svg>
      </button>
      <button type="button" class="theme" onClick={nextTheme} title={`Theme: ${theme.value}`} aria-label={`Theme: ${theme.value}. Change it`}>
        <svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true"><circle cx="8" cy="8" r="6.2" fill="none" stroke="currentColor" stroke-width="1.4" /><path d={theme.value === "dark" ? "M8 1.8a6.2 6.2 0 0 1 0 12.4 6.2 6.2 0 0 1 0-12.4" : theme.value === "light" ? "" : "M8 1.8a6.2 6.2 0 0 1 0 12.4z"} fill="currentColor" /></svg>
      </button>
    </div>
  );
}

function Wheel() {
  return <svg width="22" height="22" viewBox="0 0 32 32" aria-hidden="true"><g fill="none" stroke="currentColor" stroke-width="2.4" stroke-linecap="round"><circle cx="16" cy="16" r="8" /><path d="M16 3v26M3 16h26M6.8 6.8l18.4 18.4M25.2 6.8 6.8 25.2" /></g></svg>;
}

async function logOut() {
  try {
    await call("POST", "/logout");
  } finally {
    loggedOut.value = true;
  }
}
