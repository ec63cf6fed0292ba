/* A text as Markdown that may still grow: blocks that have not changed keep their elements. */
import { render } from "preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { blocks, elements } from "../text/markdown";
import { CopyButton } from "./copy";

interface Shown {
  html: string;
  nodes: ChildNode[];
}

/* Give each block of code its copy button. */
function decorate(parent: DocumentFragment): void {
  for (const pre of parent.querySelectorAll("pre")) {
    const box = document.createElement("div");
    const bar = document.createElement("div");
    const language = /language-([\w+#-]+)/.exec(pre.querySelector("code")?.className ?? "")?.[1] ?? "";
    box.className = "code";
    bar.className = "code-bar";
    bar.dataset.language = language;
    pre.tabIndex = 0;
    pre.setAttribute("role", "region");
    pre.setAttribute("aria-label", language ? `Code in ${language}` : "Code");
    pre.replaceWith(box);
    box.append(bar, pre);
    render(<CopyButton text={() => pre.textContent!} label="Copy code" />, bar);
  }
  for (const table of parent.querySelectorAll("table")) {
    const box = document.createElement("div");
    box.className = "wide";
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", "Table");
    table.replaceWith(box);
    box.append(table);
  }
}

function draw(root: HTMLElement, shown: Shown[], text: string): void {
  const wanted = blocks(text);
  let same = 0;
  while (same < wanted.length && shown[same]?.html === wanted[same]) same++;
  for (const block of shown.splice(same)) for (const node of block.nodes) node.remove();
  for (const html of wanted.slice(same)) {
    const fragment = elements(html);
    decorate(fragment);
    const nodes = [...fragment.childNodes];
    root.append(fragment);
    shown.push({ html, nodes });
  }
}

/* While a text grows, drawing takes at most a quarter of the time. */
export function Rich({ text, isGrowing }: { text: string; isGrowing: boolean }) {
  const root = useRef<HTMLDivElement>(null);
  const state = useRef({ shown: [] as Shown[], cost: 0, at: 0, timer: 0, text });
  const now = () => {
    const { current: kept } = state;
    kept.timer = 0;
    if (!root.current) return;
    const began = performance.now();
    draw(root.current, kept.shown, kept.text);
    kept.at = performance.now();
    kept.cost = kept.at - began;
  };
  useLayoutEffect(() => {
    const { current: kept } = state;
    kept.text = text;
    const wait = isGrowing ? kept.at + 3 * kept.cost - performance.now() : 0;
    if (wait <= 0) {
      clearTimeout(kept.timer);
      now();
    } else if (!kept.timer) kept.timer = window.setTimeout(now, wait);
  }, [text, isGrowing]);
  useEffect(() => () => clearTimeout(state.current.timer), []);
  return <div class="rich" ref={root} />;
}
