/* Text mode: the model continues whatever is written, as a model without a chat template can. */
import { useEffect, useRef } from "preact/hooks";
import { continueText, running, stop } from "../chat/answer";
import { connection, current, settings, update } from "../chat/state";
import { prefixOf } from "../text/tokens";
import { NoticeBar } from "./chat";
import { TokenView } from "./tokenview";
import { factsOf, Waiting } from "./turn";

export function TextMode() {
  const chat = current.value;
  const box = useRef<HTMLTextAreaElement>(null);
  const live = running.value?.chatId === chat.id ? running.value : null;
  const text = chat.text + (live?.turn.content ?? "");
  const tokens = live?.turn.tokens ?? chat.tokens;
  const facts = factsOf(chat.stats);
  const before = chat.before.at(-1);
  const canRun = () => running.value === null && connection.value === "open" && current.value.text !== "";
  const run = () => canRun() && void continueText(current.value.id, current.value.text);
  const undo = (again: boolean) => {
    update(chat.id, (edited) => Object.assign(edited, { text: before, before: edited.before.slice(0, -1), tokens: [], stats: undefined }));
    if (again) void continueText(chat.id, before!);
  };
  useEffect(() => {
    if (live) box.current!.scrollTop = box.current!.scrollHeight;
  }, [text]);
  useEffect(() => box.current!.focus(), [chat.id]);
  return (
    <main>
      <div class="text-mode">
        <textarea
          ref={box} value={text} dir="auto" readOnly={live !== null} aria-label="Text to continue" spellcheck={false}
          placeholder="Begin a text, and let the model continue it. For example: Once upon a time"
          onInput={(event) => {
            const { value } = event.currentTarget;
            update(chat.id, (edited) => Object.assign(edited, { mode: "text", text: value, tokens: [], stats: undefined }));
          }}
          onKeyDown={(event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && run()}
        />
        {settings.value.showsTokens && tokens.length > 0 && (
          <section class="last-tokens" aria-label="The last continuation">
            <TokenView
              tokens={tokens} onBranch={live ? undefined : (index, candidate) => {
                const prefix = prefixOf(tokens, index, candidate, chat.text.slice(before!.length));
                if (prefix !== null) void continueText(chat.id, before! + prefix);
              }}
            />
          </section>
        )}
      </div>
      <div class="foot">
        <NoticeBar />
        <div class="row">
          {live
            ? <button type="button" class="main" onClick={stop}>Stop</button>
            : <button type="button" class="main" disabled={!canRun()} title="Ctrl+Enter" onClick={run}>Continue</button>}
          <button type="button" disabled={live !== null || before === undefined} onClick={() => undo(false)}>Undo</button>
          <button type="button" disabled={live !== null || before === undefined} onClick={() => undo(true)}>Again</button>
          {live && live.turn.content === "" ? <Waiting since={live.began} /> : <p class="facts">{facts.join(" · ")}</p>}
        </div>
      </div>
    </main>
  );
}
