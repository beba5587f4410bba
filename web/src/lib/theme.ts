import { effect, signal } from "@preact/signals";

type Theme = "system" | "light" | "dark";

const kept = "tiphys-theme";

/** theme is what the person chose; "system" follows the machine. */
export const theme = signal<Theme>(read());

function read(): Theme {
  try {
    const t = window.localStorage.getItem(kept);
    return t === "light" || t === "dark" ? t : "system";
  } catch { return "system"; }
}

effect(() => {
  const t = theme.value;
  if (t === "system") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.setAttribute("data-theme", t);
  try { window.localStorage.setItem(kept, t); } catch { /* storage is not allowed: the choice lasts as long as the page */ }
});

/** nextTheme goes round: system, light, dark. */
export function nextTheme(): void {
  theme.value = theme.value === "system" ? "light" : theme.value === "light" ? "dark" : "system";
}
