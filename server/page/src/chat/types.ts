/* What the page knows: conversations as trees of turns, the tokens of an answer, settings. */

/* A candidate for a token: its text, its log-probability, and its bytes where the text alone does not give them. */
export interface Candidate {
  t: string;
  l: number;
  b?: number[];
}

/* A token of an answer with the likeliest candidates for its place. */
export interface Token extends Candidate {
  top: Candidate[];
}

export interface ToolCall {
  id: string;
  name: string;
  arguments: string;
}

export interface Stats {
  prompt?: number;
  cached?: number;
  completion?: number;
  accepted?: number;
  rejected?: number;
  /* Seconds until the first token, and from the first to the last. */
  first?: number;
  rest?: number;
}

/* One turn. Turns with the same parent are versions of each other. */
export interface Turn {
  id: string;
  parent: string | null;
  role: "user" | "assistant" | "tool";
  content: string;
  created: number;
  reasoning?: string;
  calls?: ToolCall[];
  /* Of an assistant's turn: what the person has typed as answers to its calls, by the calls' ids. */
  results?: Record<string, string>;
  /* Of a tool's turn: the call that it answers. */
  callId?: string;
  model?: string;
  tokens?: Token[];
  stats?: Stats;
  finish?: string;
  error?: string;
  isJson?: boolean;
}

export interface Conversation {
  id: string;
  title: string;
  created: number;
  updated: number;
  model: string;
  mode: "chat" | "text";
  system: string;
  tools: string;
  toolChoice: string;
  schema: string;
  turns: Record<string, Turn>;
  /* For each parent ("" for the root) the version that is shown. */
  shown: Record<string, string>;
  /* In text mode: the text, what it was before each continuation, and the tokens of the last one. */
  text: string;
  before: string[];
  tokens: Token[];
  stats?: Stats;
}

/* Sampling settings of a model, as typed; an empty text means the server's default. */
export type Sampling = Record<string, string>;

export interface Model {
  id: string;
  context?: number;
  /* What the model's own files recommend for sampling, by the names of the API's fields. */
  defaults: Record<string, number>;
  hasTemplate?: boolean;
}
