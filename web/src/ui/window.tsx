import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

interface WindowProps { count: number; height: number; row: (i: number) => ComponentChildren; goTo?: number; class: string }

/** overscan is how many rows beyond the ones in sight are in the page. */
const overscan = 15;

/** Window shows a list of any length in the box that scrolls around it: only the rows in sight are in the page. All have the same height, in pixels. */
export function Window({ count, height, row, goTo, class: cls }: WindowProps) {
  const box = useRef<HTMLDivElement>(null);
  const [at, setAt] = useState({ top: 0, room: 900 });
  useEffect(() => {
    const frame = scroller(box.current);
    if (!frame) return;
    const measure = () => setAt({ top: frame.scrollTop - start(box.current, frame), room: frame.clientHeight });
    measure();
    frame.addEventListener("scroll", measure, { passive: true });
    const o = new ResizeObserver(measure);
    o.observe(frame);
    return () => { frame.removeEventListener("scroll", measure); o.disconnect(); };
  }, []);
  useLayoutEffect(() => {
    const frame = scroller(box.current);
    if (!frame || goTo === undefined || goTo < 0) return;
    const y = start(box.current, frame) + goTo * height;
    if (y < frame.scrollTop || y + height > frame.scrollTop + frame.clientHeight) frame.scrollTop = y - frame.clientHeight / 3;
  }, [goTo]);
  const from = Math.max(0, Math.min(count, Math.floor(at.top / height) - overscan));
  const to = Math.min(count, Math.ceil((at.top + at.room) / height) + overscan);
  const rows = [];
  for (let i = from; i < to; i++) rows.push(row(i));
  return (
    <div class={cls} ref={box} style={{ height: `${count * height}px`, "--row": `${height}px` }}>
      <div style={{ transform: `translateY(${from * height}px)` }}>{rows}</div>
    </div>
  );
}

/** scroller is the box that scrolls an element. */
function scroller(el: HTMLElement | null): HTMLElement | null {
  for (let up = el?.parentElement ?? null; up; up = up.parentElement) if (/auto|scroll/.test(getComputedStyle(up).overflowY)) return up;
  return null;
}

/** start is where an element begins in the box that scrolls it. */
function start(el: HTMLElement | null, frame: HTMLElement): number {
  return el ? el.getBoundingClientRect().top - frame.getBoundingClientRect().top + frame.scrollTop : 0;
}
