import { signal } from "@preact/signals";

/** loggedOut says that there is no session, or none any more; the app then says how to get one. */
export const loggedOut = signal(false);

/** Failure is an answer that is not 2xx, with what the server suggests to do. */
export class Failure extends Error {
  constructor(readonly code: number, message: string, readonly hint = "") {
    super(message);
  }
}

const base = "/api/v1";

/** url makes an address under /api/v1; parameters without a value are left out. */
export function url(path: string, query: Record<string, string | number | undefined> = {}): string {
  const q = new URLSearchParams();
  for (const [k, v] of Object.entries(query)) if (v !== undefined && v !== "") q.set(k, String(v));
  const s = q.toString();
  return base + path + (s ? "?" + s : "");
}

async function check(res: Response): Promise<Response> {
  if (res.ok) return res;
  if (res.status === 401) loggedOut.value = true;
  let message = `${res.status} ${res.statusText}`;
  let hint = "";
  try {
    const body = await res.json() as { message?: string; hint?: string };
    message = body.message || message;
    hint = body.hint ?? "";
  } catch { /* not JSON: the status line says enough */ }
  throw new Failure(res.status, message, hint);
}

async function send(address: string, init: RequestInit): Promise<Response> {
  let res: Response;
  try {
    res = await fetch(address, { credentials: "same-origin", ...init });
  } catch (e) {
    if (init.signal?.aborted) throw e;
    throw new Failure(0, "the server does not answer", "Check that tiphys serve is running, then try again.");
  }
  return check(res);
}

/** get reads JSON. */
export async function get<T>(path: string, query: Record<string, string | number | undefined> = {}, signal?: AbortSignal): Promise<T> {
  const res = await send(url(path, query), { signal, headers: { Accept: "application/json" } });
  return await res.json() as T;
}

/** call sends a command with a JSON body and reads the answer, if there is one. */
export async function call<T>(method: string, path: string, body?: unknown, query: Record<string, string> = {}): Promise<T | undefined> {
  const init: RequestInit = { method };
  if (body !== undefined) {
    init.headers = { "Content-Type": "application/json" };
    init.body = JSON.stringify(body);
  }
  const text = await (await send(url(path, query), init)).text();
  if (!text) return undefined;
  try { return JSON.parse(text) as T; } catch { return undefined; }
}

/** lines reads a text answer and gives it away line by line as it comes. It resolves at the end of the stream. */
export async function lines(address: string, signal: AbortSignal, take: (lines: string[]) => void): Promise<void> {
  const res = await send(address, { signal });
  const reader = res.body?.getReader();
  if (!reader) return;
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
    const parts = rest.split("\n");
    rest = parts.pop() ?? "";
    if (done && rest) parts.push(rest);
    if (parts.length) take(parts);
    if (done) return;
  }
}
