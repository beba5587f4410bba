import { computed, signal } from "@preact/signals";

/** The place in the app: path, query and fragment of the address. */
export const place = signal(read());

export const path = computed(() => place.value.path);

function read() {
  return { path: window.location.pathname, query: new URLSearchParams(window.location.search), hash: window.location.hash };
}

/** go shows another address of this app. */
export function go(href: string, replace = false): void {
  if (replace) window.history.replaceState(null, "", href);
  else window.history.pushState(null, "", href);
  const before = place.peek().path;
  place.value = read();
  if (place.peek().path !== before) window.scrollTo(0, 0);
}

/** setQuery changes some parameters of the query; an empty value removes one. */
export function setQuery(changes: Record<string, string | undefined>, replace = true): void {
  const { path, query, hash } = place.peek();
  const next = new URLSearchParams(query);
  for (const [k, v] of Object.entries(changes)) {
    if (v) next.set(k, v);
    else next.delete(k);
  }
  const s = next.toString();
  go(path + (s ? "?" + s : "") + hash, replace);
}

/** setHash changes the fragment without scrolling. */
export function setHash(hash: string): void {
  const { path, query } = place.peek();
  const s = query.toString();
  go(path + (s ? "?" + s : "") + hash, true);
}

/** listen follows the browser's own navigation and clicks on links of this app. */
export function listen(): void {
  window.addEventListener("popstate", () => { place.value = read(); });
  document.addEventListener("click", (e) => {
    if (e.defaultPrevented || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
    const a = (e.target as Element | null)?.closest?.("a");
    const href = a?.getAttribute("href");
    if (!a || !href || a.target || a.hasAttribute("download") || !href.startsWith("/") || href.startsWith("//") || href.startsWith("/api/")) return;
    e.preventDefault();
    go(href);
  });
}

export { actorOf, appPath, eventPath, match, mrPath, runPath, seg, seqPath, trailPath } from "./paths";
