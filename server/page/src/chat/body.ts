/* What is sent: the messages of a conversation, and the fields of a request. */
import { pathTo } from "./tree";
import type { Conversation, Sampling, Turn } from "./types";

export const NUM_CANDIDATES = 5;
export const NOT_ANSWERED = "There is no answer: the person went on without one.";
/* Fields that are numbers, in the order of the settings panel. */
export const NUMBERS = [
  "temperature", "top_p", "top_k", "min_p", "max_tokens", "seed", "repetition_penalty", "frequency_penalty", "presence_penalty",
];

/* The messages of some turns; a call that nobody answered gets an answer that tells so, since the API asks for one. */
export function messagesOf(system: string, turns: Turn[]): object[] {
  const messages: object[] = system.trim() ? [{ role: "system", content: system }] : [];
  turns.forEach((turn, index) => {
    if (turn.role === "user") messages.push({ role: "user", content: turn.content });
    if (turn.role === "tool") messages.push({ role: "tool", tool_call_id: turn.callId, content: turn.content });
    if (turn.role !== "assistant") return;
    const calls = (turn.calls ?? []).map((call) => ({
      id: call.id, type: "function", function: { name: call.name, arguments: call.arguments },
    }));
    messages.push({
      role: "assistant", content: turn.content || (calls.length ? null : ""), ...(calls.length ? { tool_calls: calls } : {}),
    });
    const answered = new Set<string | undefined>();
    for (let next = index + 1; turns[next]?.role === "tool"; next++) answered.add(turns[next].callId);
    if (index === turns.length - 1) return;
    for (const call of calls)
      if (!answered.has(call.id)) messages.push({ role: "tool", tool_call_id: call.id, content: NOT_ANSWERED });
  });
  return messages;
}

/* Settings as fields; what is empty is left out. */
export function samplingFields(sampling: Sampling): Record<string, unknown> {
  const fields: Record<string, unknown> = {};
  for (const name of NUMBERS) {
    const text = sampling[name]?.trim();
    if (!text) continue;
    if (Number.isNaN(Number(text))) throw new Error(`${name} must be a number, not ${text}`);
    fields[name] = Number(text);
  }
  const stops = (sampling.stop ?? "").split("\n").filter((line) => line !== "");
  if (stops.length) fields.stop = stops.length === 1 ? stops[0] : stops;
  return fields;
}

/* A JSON text of the settings; throws with the name of the field that does not hold JSON. */
export function parsed(name: string, text: string): any {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${name}: this is not JSON. ${(error as Error).message}`);
  }
}

/* Tools and schema as fields. */
export function formFields(chat: Conversation): Record<string, unknown> {
  const fields: Record<string, unknown> = {};
  if (chat.tools.trim()) {
    const tools = parsed("Tools", chat.tools);
    if (!Array.isArray(tools)) throw new Error("Tools: a JSON array is needed.");
    if (tools.length) fields.tools = tools;
    if (tools.length && chat.toolChoice !== "auto") fields.tool_choice = chat.toolChoice;
  }
  if (chat.schema.trim()) {
    const schema = parsed("Schema", chat.schema);
    fields.response_format = { type: "json_schema", json_schema: { name: "answer", schema, strict: true } };
  }
  return fields;
}

/* The request for what follows a turn, without the fields that only this page needs. */
export function chatBody(chat: Conversation, parent: string | null, sampling: Sampling): Record<string, unknown> {
  const messages = messagesOf(chat.system, pathTo(chat, parent));
  return { model: chat.model, messages, ...formFields(chat), ...samplingFields(sampling) };
}

export function streaming(wantsTokens: boolean): object {
  const tokens = wantsTokens ? { logprobs: true, top_logprobs: NUM_CANDIDATES } : {};
  return { stream: true, stream_options: { include_usage: true }, ...tokens };
}
