import { useCallback, useEffect, useState } from "preact/hooks";
import { get } from "./api";
import { useLoad, type Loaded } from "./load";
import type { Page, Row } from "./types";

export interface Paged<T> extends Loaded<T[]> { more?: () => void; busy: boolean }

/** usePaged reads a list page by page. When the list changes all pages that were shown are read again. */
export function usePaged<T>(path: string, query: Record<string, string | number | undefined>, tables: string[], only?: (r: Row) => boolean): Paged<T> {
  const key = path + JSON.stringify(query);
  const [pages, setPages] = useState(1);
  const [next, setNext] = useState<string>();
  useEffect(() => setPages(1), [key]);
  const loaded = useLoad<T[]>(`${key}#${pages}`, async (signal) => {
    const items: T[] = [];
    let after: string | undefined;
    for (let i = 0; i < pages; i++) {
      const page = await get<Page<T>>(path, { ...query, after }, signal);
      items.push(...(page.items ?? []));
      after = page.next;
      if (!after) break;
    }
    setNext(after);
    return items;
  }, { tables, only });
  const [kept, setKept] = useState<{ key: string; items: T[] }>();
  useEffect(() => { if (loaded.data) setKept({ key, items: loaded.data }); }, [loaded.data]);
  const data = loaded.data ?? (kept?.key === key ? kept.items : undefined);
  const more = useCallback(() => setPages((n) => n + 1), []);
  return { ...loaded, data, busy: loaded.loading, more: next ? more : undefined };
}
