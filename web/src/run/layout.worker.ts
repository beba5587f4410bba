import { draw, type Ask } from "./draw";

// Placing a large graph takes a while: it happens beside the page, which stays usable.
self.onmessage = (e: MessageEvent<Ask>) => { self.postMessage(draw(e.data)); };
