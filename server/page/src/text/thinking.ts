/* Thinking apart from the answer: <think>...</think> at the beginning, or only its end where the prompt opened it. */
export interface Parts {
  thinking: string;
  answer: string;
  isThinking: boolean;
}

export function split(content: string, reasoning = ""): Parts {
  const opened = /^\s*<think(?:ing)?>/.exec(content);
  const end = /<\/think(?:ing)?>\s*/.exec(content);
  if (opened && !end) return { thinking: content.slice(opened[0].length).trim(), answer: "", isThinking: true };
  const isSplit = end !== null && (opened !== null || !content.slice(0, end.index).includes("<think"));
  if (!isSplit) return { thinking: reasoning.trim(), answer: content, isThinking: reasoning !== "" && content === "" };
  const thinking = content.slice(opened?.[0].length ?? 0, end.index).trim();
  return { thinking, answer: content.slice(end.index + end[0].length), isThinking: false };
}
