/* Conversations as trees: which turns are shown, which versions a turn has. */
import type { Conversation, Turn } from "./types";

const ROOT = "";

export function newId(): string {
  return crypto.randomUUID ? crypto.randomUUID() : `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
}

export function newConversation(model: string): Conversation {
  const now = Date.now();
  return {
    id: newId(), title: "", created: now, updated: now, model, mode: "chat", system: "", tools: "", toolChoice: "auto",
    schema: "", turns: {}, shown: {}, text: "", before: [], tokens: [],
  };
}

/* All versions of what follows a turn, oldest first. */
export function versions(chat: Conversation, parent: string | null): Turn[] {
  const found = Object.values(chat.turns).filter((turn) => turn.parent === parent);
  return found.sort((a, b) => a.created - b.created);
}

/* The turns that are shown, from the first to the last. */
export function path(chat: Conversation): Turn[] {
  const children = new Map<string, Turn[]>();
  for (const turn of Object.values(chat.turns)) {
    const key = turn.parent ?? ROOT;
    children.set(key, [...(children.get(key) ?? []), turn]);
  }
  const turns: Turn[] = [];
  for (let key = ROOT; ; ) {
    const options = children.get(key);
    if (!options) return turns;
    const next = options.find((turn) => turn.id === chat.shown[key]) ?? options.reduce((a, b) => (b.created > a.created ? b : a));
    turns.push(next);
    key = next.id;
  }
}

/* The turns from the first to this one. */
export function pathTo(chat: Conversation, id: string | null): Turn[] {
  const turns: Turn[] = [];
  for (let turn = id === null ? undefined : chat.turns[id]; turn; turn = turn.parent === null ? undefined : chat.turns[turn.parent])
    turns.unshift(turn);
  return turns;
}

/* Add a turn and show it. */
export function addTurn(chat: Conversation, turn: Omit<Turn, "id" | "created">): Turn {
  const last = Math.max(0, ...versions(chat, turn.parent).map((other) => other.created));
  const made = { ...turn, id: newId(), created: Math.max(Date.now(), last + 1) };
  chat.turns = { ...chat.turns, [made.id]: made };
  chat.shown = { ...chat.shown, [made.parent ?? ROOT]: made.id };
  return made;
}

/* Remove a turn with all that follows it. */
export function removeTurn(chat: Conversation, id: string): void {
  const lost = [id];
  for (const parent of lost) lost.push(...versions(chat, parent).map((turn) => turn.id));
  const parent = chat.turns[id]?.parent ?? ROOT;
  chat.turns = Object.fromEntries(Object.entries(chat.turns).filter(([key]) => !lost.includes(key)));
  chat.shown = Object.fromEntries(Object.entries(chat.shown).filter(([key, shown]) => !lost.includes(key) && !lost.includes(shown)));
  const left = versions(chat, parent === ROOT ? null : parent);
  if (left.length) chat.shown[parent] ??= left[left.length - 1].id;
}

export function show(chat: Conversation, turn: Turn): void {
  chat.shown = { ...chat.shown, [turn.parent ?? ROOT]: turn.id };
}

export function titleOf(chat: Conversation): string {
  const first = chat.mode === "text" ? chat.text : (versions(chat, null)[0]?.content ?? "");
  return chat.title || first.trim().split("\n")[0].slice(0, 60) || "New chat";
}
