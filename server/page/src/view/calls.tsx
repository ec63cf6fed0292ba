/* Tool calls, which the person at the page answers by hand. */
import { running } from "../chat/answer";
import { answerCalls, setResult } from "../chat/actions";
import type { ToolCall, Turn } from "../chat/types";

function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function Call({ call, turn, isOpen }: { call: ToolCall; turn: Turn; isOpen: boolean }) {
  const id = `result-${call.id}`;
  return (
    <div class="call">
      <p class="call-name">Calls <b>{call.name}</b></p>
      <pre tabIndex={0} role="region" aria-label={`Arguments of ${call.name}`}>{pretty(call.arguments)}</pre>
      {isOpen && (
        <>
          <label for={id}>What does {call.name} answer?</label>
          <textarea
            id={id} class="mono result" rows={1} placeholder='for example {"temperature": 21}' value={turn.results?.[call.id] ?? ""}
            onInput={(event) => setResult(turn, call.id, event.currentTarget.value)}
            onKeyDown={(event) => {
              if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
              event.preventDefault();
              event.currentTarget.form!.requestSubmit();
            }}
          />
        </>
      )}
    </div>
  );
}

/* All calls of a turn. They can be answered while nothing follows them. */
export function Calls({ turn, isLast }: { turn: Turn; isLast: boolean }) {
  const isOpen = isLast && running.value === null;
  const submit = (event: Event) => {
    event.preventDefault();
    void answerCalls(turn);
  };
  return (
    <form class="calls" onSubmit={submit}>
      {turn.calls!.map((call) => <Call key={call.id} call={call} turn={turn} isOpen={isOpen} />)}
      {isOpen && <button type="submit" class="main small">{turn.calls!.length > 1 ? "Send answers" : "Send answer"}</button>}
    </form>
  );
}
