/* The server's API: models, streams, tokens. Every failure is an ApiError with a sentence that can be shown. */
import type { Candidate, Model, Token } from "./types";

export class ApiError extends Error {
  constructor(message: string, readonly status = 0, readonly code = "", readonly param = "") {
    super(message);
  }
}

export const NO_SERVER = "The server does not answer. Is it still running?";

let key = "";

export function setKey(text: string): void {
  key = text;
}

export function hasKey(): boolean {
  return key !== "";
}

async function request(path: string, body?: object, signal?: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = { ...(body ? { "Content-Type": "application/json" } : {}) };
  if (key) headers.Authorization = `Bearer ${key}`;
  let response: Response;
  try {
    response = await fetch(path, {
      method: body ? "POST" : "GET", headers, signal, body: body && JSON.stringify(body),
      credentials: key ? "omit" : "same-origin",
    });
  } catch (error) {
    if ((error as Error).name === "AbortError") throw error;
    throw new ApiError(NO_SERVER);
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => null);
  const { message, code, param } = answer?.error ?? {};
  throw new ApiError(message ?? `The server answered ${response.status}.`, response.status, code ?? "", param ?? "");
}

export async function listModels(): Promise<Model[]> {
  const { data } = await (await request("/v1/models")).json();
  return data
    .filter((model: { embeddings_only?: boolean }) => !model.embeddings_only)
    .map((model: { id: string; max_model_len?: number; default_sampling_params?: Record<string, number> }) => ({
      id: model.id, context: model.max_model_len, defaults: model.default_sampling_params ?? {},
    }));
}

/* Whether a model can chat: without a chat template it can only continue texts. */
export async function hasTemplate(model: string): Promise<boolean> {
  try {
    await tokenize({ model, messages: [{ role: "user", content: "." }] });
    return true;
  } catch (error) {
    return !/no chat template/.test((error as Error).message);
  }
}

export interface Tokens {
  tokens: number[];
  token_strs?: string[];
}

export async function tokenize(body: object): Promise<Tokens> {
  return (await request("/tokenize", body)).json();
}

/* The chunks of a streamed answer; ApiError if it breaks off before its end. */
export async function* stream(path: string, body: object, signal: AbortSignal): AsyncGenerator<any> {
  const response = await request(path, body, signal);
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (rest + value).split(/\r?\n/);
      rest = lines.pop()!;
      for (const line of lines) {
        if (!line.startsWith("data:")) continue;
        const data = line.slice(5).trim();
        if (data === "[DONE]") return;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new ApiError(chunk.error.message, 200, chunk.error.code ?? "");
        yield chunk;
      }
    }
  } catch (error) {
    if (error instanceof ApiError || (error as Error).name === "AbortError") throw error;
    throw new ApiError("The connection to the server broke off.");
  }
  throw new ApiError("The connection to the server broke off.");
}

function candidate(entry: { token: string; logprob: number; bytes?: number[] | null }): Candidate {
  const isBroken = entry.token.includes("\ufffd") && entry.bytes;
  return { t: entry.token, l: entry.logprob, ...(isBroken ? { b: entry.bytes! } : {}) };
}

/* The tokens of a chat's chunk. */
export function chatTokens(logprobs: any): Token[] {
  return (logprobs?.content ?? []).map((entry: any) => ({
    ...candidate(entry), top: (entry.top_logprobs ?? []).map(candidate),
  }));
}

/* A token of a completion: part of a character comes as "bytes:\xf0\x9f". */
function textCandidate(token: string, logprob: number): Candidate {
  if (!/^bytes:(\\x[0-9a-f]{2})+$/.test(token)) return { t: token, l: logprob };
  return { t: "\ufffd", l: logprob, b: token.slice(6).split("\\x").slice(1).map((digits) => parseInt(digits, 16)) };
}

/* The tokens of a completion's chunk. */
export function textTokens(logprobs: any): Token[] {
  return (logprobs?.tokens ?? []).map((token: string, index: number) => ({
    ...textCandidate(token, logprobs.token_logprobs[index]),
    top: Object.entries(logprobs.top_logprobs?.[index] ?? {})
      .map(([text, logprob]) => textCandidate(text, logprob as number))
      .sort((a, b) => b.l - a.l),
  }));
}
