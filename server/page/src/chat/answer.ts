/* Asking the model: one answer at a time, shown while it comes. */
import { batch, signal } from "@preact/signals";
import { ApiError, chatTokens, stream, textTokens, tokenize } from "./api";
import { chatBody, samplingFields, streaming } from "./body";
import { begin, change, connect, connection, dialog, fail, find, notice, settings, update } from "./state";
import { addTurn, removeTurn } from "./tree";
import type { Conversation, Stats, Token, Turn } from "./types";

const TEXT_CANDIDATES = 5;
const DEFAULT_LENGTH = 256;
const KEEP_MS = 2000;
const FRAME_MS = 16;

/* The answer that is being written; `turn` is replaced with each chunk. */
export interface Running {
  chatId: string;
  turn: Turn;
  controller: AbortController;
  began: number;
}

export const running = signal<Running | null>(null);

export function stop(): void {
  running.value?.controller.abort();
}

/* When tokens came, for the speed. */
class Clock {
  private began = performance.now();
  private first = 0;
  private last = 0;

  token(): void {
    this.last = performance.now();
    this.first ||= this.last;
  }

  stats(usage: any): Stats {
    const details = usage?.completion_tokens_details ?? {};
    return {
      prompt: usage?.prompt_tokens, cached: usage?.prompt_tokens_details?.cached_tokens, completion: usage?.completion_tokens,
      accepted: details.accepted_prediction_tokens, rejected: details.rejected_prediction_tokens,
      first: this.first ? (this.first - this.began) / 1000 : undefined, rest: (this.last - this.first) / 1000,
    };
  }
}

/* The turn with what a chunk of a chat adds. Text is what `delta.content` says, nothing else. */
function withChatChunk(turn: Turn, choice: any): Turn {
  const delta = choice.delta ?? {};
  const next = { ...turn };
  if (delta.content) next.content += delta.content;
  const reasoning = delta.reasoning_content ?? delta.reasoning;
  if (reasoning) next.reasoning = (next.reasoning ?? "") + reasoning;
  for (const part of delta.tool_calls ?? []) {
    next.calls = [...(next.calls ?? [])];
    const call = next.calls[part.index] ?? { id: part.id, name: "", arguments: "" };
    next.calls[part.index] = {
      ...call, name: call.name + (part.function?.name ?? ""), arguments: call.arguments + (part.function?.arguments ?? ""),
    };
  }
  next.tokens!.push(...chatTokens(choice.logprobs));
  if (choice.finish_reason) next.finish = choice.finish_reason;
  return next;
}

function withTextChunk(turn: Turn, choice: any): Turn {
  turn.tokens!.push(...textTokens(choice.logprobs));
  return { ...turn, content: turn.content + (choice.text ?? ""), finish: choice.finish_reason ?? turn.finish };
}

function isEmpty(turn: Turn, prefix: string): boolean {
  return turn.content === prefix && !turn.reasoning && !turn.calls?.length;
}

/* What is left of an answer that broke off: a call with half of its arguments would spoil the conversation. */
function withoutHalfCalls(turn: Turn): Turn {
  const { calls, ...rest } = turn;
  const whole = (calls ?? []).filter((call) => {
    try {
      return JSON.parse(call.arguments), true;
    } catch {
      return false;
    }
  });
  return whole.length ? { ...rest, calls: whole } : rest;
}

function explain(error: unknown): void {
  if ((error as Error).name === "AbortError") return;
  if (error instanceof ApiError && error.status === 401) dialog.value = "key";
  if (error instanceof ApiError && error.status === 0) {
    connection.value = "lost";
    void connect();
  }
  fail((error as Error).message);
  if (/no chat template/.test((error as Error).message))
    notice.value = { text: "This model has no chat template.", isError: true, action: { label: "Let it continue a text", run: begin } };
}

type Source = (signal: AbortSignal) => AsyncGenerator<[any, (turn: Turn, choice: any) => Turn]>;

/* Read a source into a turn. Resolves to the turn, or to null if nothing came: then the failure has been shown.

   The caller ends `running` together with what it changes, so that no half-way state is ever drawn. */
async function run(chatId: string, begun: Turn, source: Source, prefix = ""): Promise<Turn | null> {
  const controller = new AbortController();
  const clock = new Clock();
  let turn = { ...begun, tokens: [...(begun.tokens ?? [])] };
  let timer = 0;
  let usage: any;
  let error: unknown;
  let kept = performance.now();
  notice.value = null;
  running.value = { chatId, turn, controller, began: performance.now() };
  try {
    for await (const [chunk, add] of source(controller.signal)) {
      if (chunk.usage) usage = chunk.usage;
      for (const choice of chunk.choices ?? []) {
        turn = { tokens: turn.tokens, ...add(turn, choice) };
        if (!isEmpty(turn, prefix) || turn.tokens.length > (begun.tokens?.length ?? 0)) clock.token();
      }
      timer ||= window.setTimeout(() => {
        timer = 0;
        if (running.value) running.value = { ...running.value, turn };
      }, FRAME_MS);
      if (performance.now() - kept > KEEP_MS && turn.id in find(chatId).turns) {
        kept = performance.now();
        const whole = { ...turn, finish: "broken off" }; // as it is found if the page closes now
        update(chatId, (chat) => void (chat.turns = { ...chat.turns, [turn.id]: whole }));
      }
    }
  } catch (caught) {
    error = caught;
    turn = { tokens: turn.tokens, ...withoutHalfCalls(turn) };
  }
  clearTimeout(timer);
  if (error) explain(error);
  if (error && isEmpty(turn, prefix)) return null;
  const isStopped = (error as Error)?.name === "AbortError";
  const broken = error ? { finish: isStopped ? "stopped" : "broken off", error: isStopped ? undefined : (error as Error).message } : {};
  return { ...turn, ...broken, stats: clock.stats(usage) };
}

async function* chatSource(body: object, signal: AbortSignal): ReturnType<Source> {
  for await (const chunk of stream("/v1/chat/completions", { ...body, ...streaming(true) }, signal)) yield [chunk, withChatChunk];
}

async function* textSource(body: object, signal: AbortSignal): ReturnType<Source> {
  const fields = { ...body, stream: true, stream_options: { include_usage: true }, logprobs: TEXT_CANDIDATES };
  for await (const chunk of stream("/v1/completions", fields, signal)) yield [chunk, withTextChunk];
}

function samplingOf(chat: Conversation): Record<string, string> {
  return settings.value.sampling[chat.model] ?? {};
}

/* Whether the chat API continues a beginning; known once it has refused to. */
let canContinue = true;

/* An answer's beginning, continued by the chat API where it can, else by the ids of the prompt and the beginning. */
async function* continuing(chat: Conversation, parent: string | null, prefix: string, signal: AbortSignal): ReturnType<Source> {
  const { messages, ...fields } = chatBody(chat, parent, samplingOf(chat));
  const whole = [...(messages as object[]), { role: "assistant", content: prefix }];
  const continued = { ...fields, messages: whole, continue_final_message: true, add_generation_prompt: false };
  try {
    if (canContinue) return yield* chatSource(continued, signal);
  } catch (error) {
    const isUnknown = error instanceof ApiError && error.status === 400 && /continue_final_message|add_generation_prompt/.test(error.param + error.message);
    if (!isUnknown) throw error;
    canContinue = false;
  }
  const model = chat.model;
  const prompt = await tokenize({ model, messages, ...(fields.tools ? { tools: fields.tools } : {}) });
  const begun = await tokenize({ model, prompt: prefix, add_special_tokens: false });
  const length = { max_tokens: DEFAULT_LENGTH, ...samplingFields(samplingOf(chat)) };
  yield* textSource({ model, prompt: [...prompt.tokens, ...begun.tokens], ...length }, signal);
}

/* A new answer to a turn, perhaps with a beginning that is given. `undo` runs if nothing came of it. */
export async function answer(chatId: string, parent: string | null, undo: () => void, prefix = "", tokens: Token[] = []): Promise<void> {
  if (running.value) return;
  const chat = find(chatId);
  const before = chat.shown;
  let source: Source;
  try {
    const body = chatBody(chat, parent, samplingOf(chat));
    source = prefix ? (signal) => continuing(chat, parent, prefix, signal) : (signal) => chatSource(body, signal);
  } catch (error) {
    undo();
    return fail((error as Error).message);
  }
  let begun!: Turn;
  update(chatId, (edited) => {
    const made = { parent, role: "assistant" as const, content: prefix, model: chat.model, isJson: chat.schema.trim() !== "" };
    begun = addTurn(edited, { ...made, tokens });
  }, false);
  const turn = await run(chatId, begun, source, prefix);
  batch(() => {
    running.value = null;
    update(chatId, (edited) => {
      if (turn) return void (edited.turns = { ...edited.turns, [turn.id]: turn });
      removeTurn(edited, begun.id);
      edited.shown = before;
    });
    if (!turn) undo();
  });
}

/* Continue a conversation's text (`text` mode). */
export async function continueText(chatId: string, text: string): Promise<void> {
  if (running.value) return;
  const { model } = find(chatId);
  const begun: Turn = { id: "text", parent: null, role: "assistant", content: "", created: 0, tokens: [] };
  let fields: object;
  try {
    fields = { model, prompt: text, max_tokens: DEFAULT_LENGTH, ...samplingFields(samplingOf(find(chatId))) };
  } catch (error) {
    return fail((error as Error).message);
  }
  const turn = await run(chatId, begun, (signal) => textSource(fields, signal));
  batch(() => {
    running.value = null;
    if (turn) update(chatId, (chat) => {
      chat.before = [...chat.before.slice(-19), text];
      chat.text = text + turn.content;
      chat.tokens = turn.tokens ?? [];
      chat.stats = turn.stats;
    });
  });
}

export function toggleTokens(): void {
  change({ showsTokens: !settings.value.showsTokens });
}
