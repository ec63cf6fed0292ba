/* What a person does with a conversation: send, answer a call, regenerate, edit, delete, branch. */
import { answer, running } from "./answer";
import { current, draft, editing, fail, find, notice, update } from "./state";
import { addTurn, path, removeTurn, show } from "./tree";
import { prefixOf } from "../text/tokens";
import type { Candidate, Conversation, Turn } from "./types";

function lastId(chat: Conversation): string | null {
  return path(chat).at(-1)?.id ?? null;
}

/* Send a message. If no answer comes, it goes back into the box, as if it had never been sent. */
export async function send(text: string): Promise<void> {
  const { id } = current.value;
  if (running.value) return;
  draft.value = "";
  let turn!: Turn;
  update(id, (chat) => void (turn = addTurn(chat, { parent: lastId(chat), role: "user", content: text })), false);
  await answer(id, turn.id, () => {
    update(id, (chat) => removeTurn(chat, turn.id));
    draft.value = draft.value ? `${text}\n${draft.value}` : text;
  });
}

/* Another answer to the same message, beside the one that is there. */
export function regenerate(turn: Turn): Promise<void> {
  return answer(current.value.id, turn.parent, () => {});
}

/* Send a message in other words, beside the old one; without an answer the editor opens again. */
export async function resend(turn: Turn, text: string): Promise<void> {
  const { id, shown } = current.value;
  if (running.value) return;
  editing.value = null;
  let made!: Turn;
  update(id, (chat) => void (made = addTurn(chat, { parent: turn.parent, role: "user", content: text })), false);
  await answer(id, made.id, () => {
    update(id, (chat) => {
      removeTurn(chat, made.id);
      chat.shown = shown;
    });
    editing.value = { id: turn.id, text };
  });
}

/* Put other words into the model's mouth: a new version, without tokens since no model wrote it. */
export function rewrite(turn: Turn, text: string): void {
  editing.value = null;
  if (text === turn.content) return;
  update(current.value.id, (chat) => {
    addTurn(chat, { parent: turn.parent, role: "assistant", content: text, model: turn.model, calls: turn.calls, finish: "edited" });
  });
}

export function remove(turn: Turn): void {
  const { id, turns, shown } = current.value;
  update(id, (chat) => removeTurn(chat, turn.id));
  const undo = () => update(id, (chat) => Object.assign(chat, { turns, shown }));
  notice.value = { text: "Deleted, with what followed.", isError: false, action: { label: "Undo", run: undo } };
}

export function choose(turn: Turn): void {
  update(current.value.id, (chat) => show(chat, turn));
}

/* Take another token at one place of an answer, and let the model continue from there. */
export function branch(turn: Turn, index: number, candidate: Candidate): Promise<void> | void {
  const prefix = prefixOf(turn.tokens!, index, candidate, turn.content);
  if (prefix === null) return fail("This token is only part of a character: nothing can follow it alone.");
  const tokens = [...turn.tokens!.slice(0, index), { ...candidate, top: turn.tokens![index].top }];
  return answer(current.value.id, turn.parent, () => {}, prefix, tokens);
}

/* Let the model continue an answer that ended too early. */
export function prolong(turn: Turn): Promise<void> {
  return answer(current.value.id, turn.parent, () => {}, turn.content, turn.tokens);
}

/* Keep what is typed as a call's answer; it survives a failed request. */
export function setResult(turn: Turn, callId: string, text: string): void {
  update(current.value.id, (chat) => {
    const results = { ...chat.turns[turn.id].results, [callId]: text };
    chat.turns = { ...chat.turns, [turn.id]: { ...chat.turns[turn.id], results } };
  });
}

/* Answer all calls of a turn. */
export async function answerCalls(turn: Turn): Promise<void> {
  const { id } = current.value;
  if (running.value) return;
  const results = find(id).turns[turn.id].results ?? {};
  let first: Turn | undefined;
  let parent = turn.id;
  update(id, (chat) => {
    for (const call of turn.calls ?? []) {
      const made = addTurn(chat, { parent, role: "tool", callId: call.id, content: results[call.id] ?? "" });
      first ??= made;
      parent = made.id;
    }
  }, false);
  await answer(id, parent, () => update(id, (chat) => removeTurn(chat, first!.id)));
}
