import { useEffect, useMemo, useRef } from "preact/hooks";
import type { Node } from "../lib/types";
import { Took } from "../ui/parts";
import { Glyph } from "../ui/status";
import { Window } from "../ui/window";
import { counts, label, stem, suspended, tree, worst, type Item } from "./model";

export interface ViewProps {
  nodes: Node[];
  chosen?: string;
  select: (id: string) => void;
  open: ReadonlySet<string>;
  /** toggle opens or folds a stack of so many. */
  toggle: (id: string, members: number) => void;
}

/** inPage is up to how many steps all are in the page; of more only those in sight, with one line for each's message. */
const inPage = 200;

/** lineHeight is the height of a step in a long list, in pixels. */
const lineHeight = 46;

/** Tree lists the steps, each under what it is part of. */
export function Tree({ nodes, chosen, select, open, toggle }: ViewProps) {
  const lines = useMemo(() => tree(nodes, open), [nodes, open]);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => { box.current?.querySelector("[aria-current=true]")?.scrollIntoView({ block: "nearest" }); }, [chosen]);
  const row = (i: number) => {
    const { item, depth } = lines[i]!;
    return (
      <button key={item.id} type="button" class={item.id === chosen ? "leaf on" : "leaf"} aria-current={item.id === chosen} style={{ paddingLeft: `${12 + depth * 18}px` }}
        onClick={() => (item.members ? toggle(item.id, item.members.length) : select(item.id))}>
        <Glyph state={item.members ? worst(item.members) : suspended(item.node) ? "Suspended" : item.node.phase} />
        <span class="leafname">
          <span>{item.members ? stem(label(item.node)) : label(item.node)}</span>
          {item.members ? <Counts of={item} /> : <Why node={item.node} />}
        </span>
        {!item.members && item.node.phase !== "Skipped" && item.node.phase !== "Omitted" && <Took from={item.node.startedAt} to={item.node.finishedAt} />}
      </button>
    );
  };
  if (lines.length > inPage) return <Window class="tree even" count={lines.length} height={lineHeight} row={row} goTo={lines.findIndex((l) => l.item.id === chosen)} />;
  return <div class="tree" ref={box}>{lines.map((_, i) => row(i))}</div>;
}

function Why({ node }: { node: Node }) {
  const words = node.message || (node.phase === "Succeeded" ? "" : node.why || node.synchronizationStatus);
  return words ? <span class="faint clip">{words}</span> : null;
}

/** Counts says how a fan-out is doing: "118 succeeded, 2 failed". */
export function Counts({ of }: { of: Item }) {
  const members = of.members ?? [];
  return <span class="faint">{members.length} × – {counts(members).map(([p, n]) => `${n} ${(p || "not begun").toLowerCase()}`).join(", ")}</span>;
}
