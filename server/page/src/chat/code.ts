/* The current conversation as a program that sends the same request. */
import { hasKey } from "./api";
import { chatBody, samplingFields } from "./body";
import { sampling } from "./state";
import { path } from "./tree";
import type { Conversation } from "./types";

export const LANGUAGES = ["curl", "Python", "JavaScript"] as const;
export type Language = (typeof LANGUAGES)[number];

/* What the OpenAI client for Python does not know by name goes into extra_body. */
const EXTENSIONS = ["top_k", "min_p", "repetition_penalty"];

/* The request for the last answer, or for the next one where none is there yet. */
function bodyOf(chat: Conversation): Record<string, unknown> {
  if (chat.mode === "text") return { model: chat.model, prompt: chat.text || "Once upon a time", ...samplingFields(sampling.value) };
  const turns = path(chat);
  const last = turns.at(-1);
  const parent = last?.role === "assistant" ? last.parent : (last?.id ?? null);
  const body = chatBody(chat, parent, sampling.value);
  if (turns.length === 0) (body.messages as object[]).push({ role: "user", content: "Hello!" });
  return body;
}

function indented(text: string, spaces: number): string {
  return text.replace(/\n/g, `\n${" ".repeat(spaces)}`);
}

/* JSON as Python writes it; texts are JSON's, which Python reads the same. */
function python(value: unknown, depth = 1): string {
  const inner = "    ".repeat(depth + 1);
  const end = `\n${"    ".repeat(depth)}`;
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return value.length ? `[\n${value.map((item) => `${inner}${python(item, depth + 1)},\n`).join("")}${end.slice(1)}]` : "[]";
  if (typeof value === "object") {
    const pairs = Object.entries(value!).map(([name, item]) => `${inner}${JSON.stringify(name)}: ${python(item, depth + 1)},\n`);
    return pairs.length ? `{\n${pairs.join("")}${end.slice(1)}}` : "{}";
  }
  return JSON.stringify(value);
}

function curl(url: string, body: object): string {
  const key = hasKey() ? ' \\\n  -H "Authorization: Bearer $API_KEY"' : "";
  const data = JSON.stringify(body, null, 2).replace(/'/g, "'\\''");
  return `curl ${url} \\\n  -H "Content-Type: application/json"${key} \\\n  -d '${data}'\n`;
}

function pythonProgram(base: string, body: Record<string, unknown>, isText: boolean): string {
  const extra = Object.fromEntries(Object.entries(body).filter(([name]) => EXTENSIONS.includes(name)));
  const known = Object.entries(body).filter(([name]) => !EXTENSIONS.includes(name));
  if (Object.keys(extra).length) known.push(["extra_body", extra]);
  const fields = known.map(([name, value]) => `    ${name}=${python(value)},\n`).join("");
  const [call, result] = isText ? ["completions", "choices[0].text"] : ["chat.completions", "choices[0].message.content"];
  const key = hasKey() ? 'os.environ["API_KEY"]' : '"none"';
  return `${hasKey() ? "import os\n\n" : ""}from openai import OpenAI  # pip install openai

client = OpenAI(base_url=${JSON.stringify(base)}, api_key=${key})
answer = client.${call}.create(
${fields})
print(answer.${result})
`;
}

function javascript(url: string, body: object, isText: boolean): string {
  const key = hasKey() ? ', Authorization: `Bearer ${process.env.API_KEY}`' : "";
  return `const response = await fetch(${JSON.stringify(url)}, {
  method: "POST",
  headers: { "Content-Type": "application/json"${key} },
  body: JSON.stringify(${indented(JSON.stringify(body, null, 2), 2)}),
});
const answer = await response.json();
console.log(answer.choices[0].${isText ? "text" : "message.content"});
`;
}

export function codeOf(chat: Conversation, language: Language): string {
  const isText = chat.mode === "text";
  const base = `${location.origin}/v1`;
  const url = `${base}/${isText ? "completions" : "chat/completions"}`;
  const body = bodyOf(chat);
  if (language === "curl") return curl(url, body);
  return language === "Python" ? pythonProgram(base, body, isText) : javascript(url, body, isText);
}
