/* Conversations as a file: export and import. */
import { newConversation, newId } from "./tree";
import type { Conversation, Token, Turn } from "./types";

const FORMAT = "verbatim-conversations";

export function exported(chats: Conversation[]): string {
  return JSON.stringify({ format: FORMAT, version: 1, conversations: chats }, null, 1);
}

/* The conversations of an exported file; one whose id is known already gets a new one. */
export function imported(text: string, known: Set<string>): Conversation[] {
  const file = JSON.parse(text);
  if (file?.format !== FORMAT || !Array.isArray(file.conversations))
    throw new Error("This file does not hold conversations exported from this page.");
  return file.conversations.map((chat: any) => {
    const whole: any = newConversation("");
    for (const [name, usual] of Object.entries(whole))
      if (typeof chat?.[name] === typeof usual && Array.isArray(chat[name]) === Array.isArray(usual) && chat[name] !== null)
        whole[name] = chat[name];
    whole.turns = Object.fromEntries(Object.entries(whole.turns).map(([id, turn]) => [id, checked(id, turn)]));
    whole.tokens = tokensOf(whole.tokens) ?? [];
    return known.has(whole.id) ? { ...whole, id: newId() } : whole;
  });
}

/* Tokens of a file, or undefined if they are not all tokens. */
function tokensOf(list: any): Token[] | undefined {
  const isCandidate = (item: any) => typeof item?.t === "string" && typeof item.l === "number";
  const isWhole = Array.isArray(list) && list.every((item) => isCandidate(item) && Array.isArray(item.top) && item.top.every(isCandidate));
  return isWhole ? list : undefined;
}

/* A turn of a file with all that the page relies on. */
function checked(id: string, turn: any): Turn {
  if (typeof turn?.content !== "string" || !["user", "assistant", "tool"].includes(turn.role))
    throw new Error("A turn of this file has no role or no content.");
  if (turn.parent !== null && typeof turn.parent !== "string") throw new Error("A turn of this file has no place.");
  const isCall = (call: any) => [call?.id, call?.name, call?.arguments].every((part) => typeof part === "string");
  const calls = Array.isArray(turn.calls) && turn.calls.every(isCall) ? turn.calls : undefined;
  return { ...turn, id, created: Number(turn.created) || 0, calls, tokens: tokensOf(turn.tokens) };
}

/* Let the browser save a text as a file. */
export function save(name: string, text: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
