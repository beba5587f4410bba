// A stand-in for the server, for work on the screens: `npm run build && npm run mock`, then open the address.
// It serves dist/ under the policy of the real server, answers the API with invented data, and moves one run.
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import * as d from "./data.mjs";

const port = Number(process.env.PORT ?? 7471);
const empty = process.env.EMPTY === "1";
const login = process.env.LOGIN === "1";
const dist = new URL("../dist/", import.meta.url).pathname;
const types = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const policy = "default-src 'self'; script-src 'self'; style-src 'self'; object-src 'none'; base-uri 'none'";

const page = (items) => ({ items: empty ? [] : items });

const routes = [
  [/^runs$/, (_, q) => page(d.runs.filter((r) => (!q.get("state") || r.phase === q.get("state")) && (q.get("label") ?? "").split(",").filter(Boolean).every((l) => { const [k, v] = l.split("="); return r.labels[k] === v; })).slice(0, Number(q.get("limit") ?? 100)))],
  [/^runs\/[^/]+\/([^/]+)$/, (m) => d.detail(m[1])],
  [/^apps$/, () => page(d.apps)],
  [/^apps\/[^/]+\/([^/]+)$/, (m) => d.appDetail(m[1])],
  [/^mrs$/, (_, q) => page(d.mrs.filter((x) => !q.get("state") || x.state === q.get("state")))],
  [/^mrs\/[^/]+\/(\d+)$/, (m) => d.mrDetail(Number(m[1]))],
  [/^events$/, (_, q) => page(d.events.filter((e) => !q.get("type") || e.type === q.get("type")))],
  [/^events\/([^/]+)$/, (m) => d.eventDetail(m[1])],
  [/^trail$/, () => d.trail],
  [/^entries$/, () => page(d.entries)],
  [/^ledger\/head$/, () => d.head],
  [/^ledger\/verify$/, () => ({ entries: 500, head: d.head })],
  [/^repos$/, () => page(d.repos)],
  [/^definitions$/, () => page(d.definitions)],
  [/^definitions\/([^/]+)\/[^/]+\/([^/]+)$/, (m) => ({ kind: m[1], namespace: "default", name: m[2], object: { kind: m[1], spec: { entrypoint: "main" } } })],
  [/^cron$/, () => page(d.cron)],
];

function api(req, res, path, query) {
  if (login) return json(res, 401, { code: 401, message: "this needs a token", hint: "Log in." });
  if (path === "stream") return stream(res, query);
  const log = /^(?:runs\/[^/]+\/[^/]+\/log|apps\/[^/]+\/[^/]+\/logs)\/([^/]+)$/.exec(path);
  if (log) return text(res, decodeURIComponent(log[1]), query);
  if (req.method !== "GET" && path !== "ledger/verify") return json(res, 409, { code: 409, message: "this is only a stand-in", hint: "Run tiphys serve for the real thing." });
  for (const [pattern, answer] of routes) {
    const m = pattern.exec(path);
    const body = m && answer(m.map((s) => s && decodeURIComponent(s)), query);
    if (body) return json(res, 200, body);
  }
  return json(res, 404, { code: 404, message: `${path} is not there`, hint: "Look in the lists." });
}

function json(res, code, body) {
  res.writeHead(code, { "Content-Type": "application/json" }).end(JSON.stringify(body));
}

function text(res, node, query) {
  res.writeHead(200, { "Content-Type": "text/plain; charset=utf-8" });
  const lines = d.log(node);
  const from = Number(query.get("from") ?? 0);
  res.write(lines.slice(from < 0 ? from : from).join("\n") + "\n");
  if (!query.get("follow")) return res.end();
  let n = 0;
  const timer = setInterval(() => res.write(`line ${++n} as it happens\n`), 500);
  res.on("close", () => clearInterval(timer));
}

function stream(res, query) {
  res.writeHead(200, { "Content-Type": "text/event-stream" });
  let seq = Number(query.get("since") ?? 0);
  res.write(`: from ${seq}\n\n`);
  const tables = (query.get("tables") ?? "").split(",");
  const timer = setInterval(() => {
    const run = d.runs[0];
    seq++;
    if (tables.includes("run")) res.write(`id: ${seq}\ndata: ${JSON.stringify({ table: "run", key: `default/${run.name}`, state: run.phase, body: run, seq })}\n\n`);
  }, 3000);
  res.on("close", () => clearInterval(timer));
}

createServer(async (req, res) => {
  const url = new URL(req.url, "http://x");
  if (url.pathname.startsWith("/api/v1/")) return api(req, res, url.pathname.slice(8), url.searchParams);
  const name = normalize(url.pathname);
  let body, ext = extname(name);
  try { body = await readFile(join(dist, name)); } catch { body = await readFile(join(dist, "index.html")); ext = ".html"; }
  res.writeHead(200, { "Content-Type": types[ext] ?? "application/octet-stream", "Content-Security-Policy": policy }).end(body);
}).listen(port, "127.0.0.1", () => process.stdout.write(`http://127.0.0.1:${port}/\n`));
