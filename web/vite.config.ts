import { defineConfig } from "vitest/config";

const server = process.env.TIPHYS_SERVER ?? "http://127.0.0.1:7470";

export default defineConfig({
  // The policy of the server allows no inline script and no data URLs, so nothing is inlined. Building empties dist;
  // its committed .gitkeep comes back from public/.
  build: { target: "es2022", assetsInlineLimit: 0, emptyOutDir: true, modulePreload: { polyfill: false }, reportCompressedSize: true },
  // A test may wait for a busy machine.
  test: { testTimeout: 60_000 },
  server: { proxy: { "/api": server } },
});
