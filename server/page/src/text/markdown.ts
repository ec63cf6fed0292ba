/* Markdown to elements. A model's text is not trusted: no raw HTML, no image from elsewhere, and DOMPurify at the end. */
import { tex } from "@mdit/plugin-tex";
import DOMPurify from "dompurify";
import katex from "katex";
import MarkdownIt from "markdown-it";
import type { Token as Part } from "markdown-it";
import { highlight } from "./highlight";

const md = new MarkdownIt({ html: false, linkify: true, breaks: true, highlight });
const escape = md.utils.escapeHtml;

md.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
md.use(tex, {
  delimiters: "all",
  render: (text: string, isDisplay: boolean) => `<span class="math" data-display="${isDisplay}" data-tex="${escape(text)}"></span>`,
});

/* Each block finds its own direction: Arabic beside English. */
for (const name of ["paragraph_open", "heading_open", "list_item_open", "th_open", "td_open", "blockquote_open"])
  md.renderer.rules[name] = (parts, index, options, _env, self) => {
    const side = /text-align:(\w+)/.exec(parts[index].attrGet("style") ?? "")?.[1];
    parts[index].attrs = [["dir", "auto"], ...(side ? [["class", side] as [string, string]] : [])];
    return self.renderToken(parts, index, options);
  };

/* The line end after the last line of a block of code is no part of it. */
md.core.ruler.push("trim", ({ tokens }) => {
  for (const part of tokens) if (part.type === "fence" || part.type === "code_block") part.content = part.content.replace(/\n$/, "");
});

md.renderer.rules.softbreak = md.renderer.rules.hardbreak = () => "<br>";

/* An image of the text itself is shown; any other would be fetched, and is a link instead. */
md.renderer.rules.image = (parts, index) => {
  const source = parts[index].attrGet("src") ?? "";
  const label = parts[index].content || "image";
  if (source.startsWith("data:image/")) return `<img src="${escape(source)}" alt="${escape(label)}">`;
  return `<a href="${escape(source)}">${escape(label)}</a>`;
};

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName !== "A") return;
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer");
});

/* The HTML of each block of a text, so that a growing text changes only its last ones. */
export function blocks(text: string): string[] {
  const env = {};
  const parts: Part[] = md.parse(text, env);
  const found: string[] = [];
  let start = 0;
  let depth = 0;
  parts.forEach((part, index) => {
    depth += part.nesting;
    if (depth > 0) return;
    found.push(md.renderer.render(parts.slice(start, index + 1), md.options, env));
    start = index + 1;
  });
  return found;
}

const CLEAN = {
  RETURN_DOM_FRAGMENT: true as const,
  USE_PROFILES: { html: true },
  FORBID_TAGS: ["style", "form", "input", "button", "textarea", "select", "video", "audio", "source", "picture"],
  FORBID_ATTR: ["style", "srcset", "id", "name"],
};

/* A block's elements, clean, with its formulas set. */
export function elements(html: string): DocumentFragment {
  const fragment = DOMPurify.sanitize(html, CLEAN);
  for (const place of fragment.querySelectorAll<HTMLElement>(".math"))
    katex.render(place.dataset.tex ?? "", place, {
      displayMode: place.dataset.display === "true", throwOnError: false, trust: false, strict: "ignore",
    });
  return fragment;
}
