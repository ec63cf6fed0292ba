/* Tokens as text: a character may be spread over several tokens, so bytes are put together before they are shown. */
import type { Candidate, Token } from "../chat/types";

const encoder = new TextEncoder();

function bytesOf(token: Candidate): Uint8Array {
  return token.b ? new Uint8Array(token.b) : encoder.encode(token.t);
}

/* The text that each token completes; a token that only begins or continues a character has none. */
export function textsOf(tokens: Candidate[]): string[] {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  return tokens.map((token) => decoder.decode(bytesOf(token), { stream: true }));
}

/* The text up to a place with another token there, or null if it would end within a character.

   A tokenizer may give the first token a space that the answer does not have; `content` decides. */
export function prefixOf(tokens: Token[], index: number, candidate: Candidate, content: string): string | null {
  const parts = [...tokens.slice(0, index), candidate].map(bytesOf);
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    return text.startsWith(" ") && !content.startsWith(" ") ? text.slice(1) : text;
  } catch {
    return null;
  }
}

/* Whether a token has no text: a control token, such as the end of a turn. */
export function isControl(candidate: Candidate): boolean {
  return candidate.t === "" && !candidate.b;
}

/* A token in a table: spaces, line ends and what has no shape can be seen. */
export function visible(candidate: Candidate): string {
  if (candidate.b) return candidate.b.map((byte) => `⟨${byte.toString(16).padStart(2, "0")}⟩`).join("");
  if (isControl(candidate)) return "∅";
  const text = candidate.t.replace(/ /g, "␣").replace(/\n/g, "↵").replace(/\t/g, "⇥");
  return text.replace(/[\p{C}\p{Z}]/gu, (sign) => `⟨U+${sign.codePointAt(0)!.toString(16).padStart(4, "0")}⟩`);
}

export function percent(logprob: number): string {
  const share = 100 * Math.exp(logprob);
  return `${share < 0.01 && share > 0 ? "<0.01" : share.toFixed(share < 10 ? 2 : 1)} %`;
}
