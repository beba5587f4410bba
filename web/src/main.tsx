import { render } from "preact";
import { App } from "./app";
import { startClock } from "./lib/format";
import { listen } from "./lib/router";
import "./styles/base.css";
import "./styles/parts.css";
import "./styles/lists.css";
import "./styles/run.css";
import "./styles/detail.css";

listen();
startClock();
const root = document.getElementById("app");
if (root) render(<App />, root);
