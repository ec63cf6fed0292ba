/* The tokens of an answer's prompt, those from the cache marked; they are asked for when the list is opened. */
import { useState } from "preact/hooks";
import { tokenize } from "../chat/api";
import { formFields, messagesOf } from "../chat/body";
import { current } from "../chat/state";
import { pathTo } from "../chat/tree";
import type { Turn } from "../chat/types";

export function PromptTokens({ turn }: { turn: Turn }) {
  const [texts, setTexts] = useState<string[] | string>("Loading …");
  const load = async (event: Event) => {
    if (!(event.currentTarget as HTMLDetailsElement).open) return;
    const chat = current.value;
    try {
      const { tools } = formFields(chat);
      const messages = messagesOf(chat.system, pathTo(chat, turn.parent));
      const found = await tokenize({ model: turn.model, messages, ...(tools ? { tools } : {}), return_token_strs: true });
      setTexts(found.token_strs ?? []);
    } catch (error) {
      setTexts((error as Error).message);
    }
  };
  const cached = turn.stats?.cached ?? 0;
  return (
    <details class="prompt-tokens" onToggle={load}>
      <summary>The prompt's {turn.stats?.prompt} tokens, {cached} of them from the cache</summary>
      {typeof texts === "string" ? <p>{texts}</p> : (
        <p>{texts.map((text, index) => <span key={index} class={index < cached ? "piece cached" : "piece"}>{text || "∅"}</span>)}</p>
      )}
    </details>
  );
}
