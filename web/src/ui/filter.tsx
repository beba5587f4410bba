import { useEffect, useRef, useState } from "preact/hooks";
import { place, setQuery } from "../lib/router";

/** Chips choose one value of a query parameter. */
export function Chips({ name, values, label }: { name: string; values: [string, string][]; label: string }) {
  const now = place.value.query.get(name) ?? "";
  return (
    <div class="chips" role="group" aria-label={label}>
      {values.map(([v, words]) => (
        <button key={v} type="button" class={v === now ? "chip on" : "chip"} aria-pressed={v === now} onClick={() => setQuery({ [name]: v || undefined })}>{words}</button>
      ))}
    </div>
  );
}

/** Search is a text field bound to a query parameter; the address follows when typing pauses. */
export function Search({ name, placeholder, first }: { name: string; placeholder: string; first?: boolean }) {
  const now = place.value.query.get(name) ?? "";
  const [text, setText] = useState(now);
  const timer = useRef(0);
  useEffect(() => { setText(now); }, [now]);
  const set = (v: string) => {
    setText(v);
    window.clearTimeout(timer.current);
    timer.current = window.setTimeout(() => setQuery({ [name]: v.trim() || undefined }), 250);
  };
  const mark = first ? { "data-filter": "" } : {};
  return (
    <input type="search" class="search" {...mark} value={text} placeholder={placeholder} aria-label={placeholder} autocomplete="off" spellcheck={false}
      onInput={(e) => set(e.currentTarget.value)} />
  );
}
