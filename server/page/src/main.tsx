/* Begins the page. */
import { render } from "preact";
import "katex/dist/katex.min.css";
import "./style/base.css";
import "./style/layout.css";
import "./style/chat.css";
import "./style/rich.css";
import { start } from "./chat/state";
import { App } from "./view/app";

render(<App />, document.getElementById("app")!);
void start();
