import { useEffect } from "preact/hooks";

type Keys = Record<string, (e: KeyboardEvent) => void>;

/** typing tells whether keys go into a field now. */
function typing(e: KeyboardEvent): boolean {
  const t = e.target as HTMLElement | null;
  return !!t && (t.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(t.tagName));
}

/** useKeys binds single keys while a screen is shown; "Escape" works in fields too. */
export function useKeys(keys: Keys): void {
  useEffect(() => {
    const down = (e: KeyboardEvent) => {
      if (e.ctrlKey || e.metaKey || e.altKey) return;
      if (typing(e) && e.key !== "Escape") return;
      const f = keys[e.key];
      if (f) f(e);
    };
    window.addEventListener("keydown", down);
    return () => window.removeEventListener("keydown", down);
  });
}

/** useListKeys moves the focus through the links marked data-row with j and k; the browser opens one on enter. */
export function useListKeys(): void {
  const move = (by: number) => {
    const rows = [...document.querySelectorAll<HTMLElement>("[data-row]")];
    if (!rows.length) return;
    const at = rows.indexOf(document.activeElement as HTMLElement);
    const next = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.max(0, Math.min(rows.length - 1, at + by))];
    next?.focus();
    next?.scrollIntoView({ block: "nearest" });
  };
  useKeys({
    j: () => move(1),
    k: () => move(-1),
    "/": (e) => {
      const f = document.querySelector<HTMLInputElement>("[data-filter]");
      if (f) { e.preventDefault(); f.focus(); f.select(); }
    },
    Escape: () => (document.activeElement as HTMLElement | null)?.blur(),
  });
}
