import { useState } from "preact/hooks";
import { Out } from "./parts";

/** Json shows a value as a tree that folds. Levels below open start folded. */
export function Json({ value, open = 2 }: { value: unknown; open?: number }) {
  return <div class="json"><Value value={value} open={open} /></div>;
}

const most = 200;

function Value({ name, value, open }: { name?: string; value: unknown; open: number }) {
  const [shown, setShown] = useState(open > 0);
  const [all, setAll] = useState(false);
  const key = name === undefined ? null : <span class="j-key">{name}: </span>;
  if (value === null || typeof value !== "object") return <div class="j-row">{key}<Leaf value={value} /></div>;
  const list = Array.isArray(value);
  const entries = list ? value.map((v, i) => [String(i), v] as const) : Object.entries(value);
  const edge = list ? ["[", "]"] : ["{", "}"];
  if (!entries.length) return <div class="j-row">{key}<span class="faint">{edge[0]}{edge[1]}</span></div>;
  const visible = all ? entries : entries.slice(0, most);
  return (
    <div class="j-node">
      <button type="button" class="j-fold" aria-expanded={shown} onClick={() => setShown(!shown)}>
        <span class="chev" aria-hidden="true">{shown ? "▾" : "▸"}</span>{key}
        <span class="faint">{edge[0]}{shown ? "" : `… ${entries.length} ${edge[1]}`}</span>
      </button>
      {shown && <div class="j-in">
        {visible.map(([k, v]) => <Value key={k} name={k} value={v} open={open - 1} />)}
        {visible.length < entries.length && <button type="button" class="link" onClick={() => setAll(true)}>show all {entries.length}</button>}
      </div>}
      {shown && <div class="faint">{edge[1]}</div>}
    </div>
  );
}

function Leaf({ value }: { value: unknown }) {
  if (typeof value === "string") {
    return /^https?:\/\/\S+$/.test(value) ? <Out href={value}>{value}</Out> : <span class="j-str">{value === "" ? '""' : value}</span>;
  }
  return <span class="j-lit">{String(value)}</span>;
}
