/* The conversation, and the box below it. */
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { send } from "../chat/actions";
import { running, stop } from "../chat/answer";
import { connection, current, draft, editing, notice, shownTurns } from "../chat/state";
import { Icon, IconButton } from "./icon";
import { TurnView } from "./turn";

const EXAMPLES = ["Hello!", "What can you do?", "Reverse the words: green lamp river", "What is 17 + 25?"];
const NEAR = 80;

function Welcome() {
  return (
    <div class="welcome">
      <h2>What would you like to know?</h2>
      <p>Conversations stay in this browser. Messages go to this server and nowhere else.</p>
      <div class="examples">
        {EXAMPLES.map((text) => (
          <button type="button" key={text} disabled={connection.value !== "open"} onClick={() => void send(text)}>{text}</button>
        ))}
      </div>
    </div>
  );
}

export function NoticeBar() {
  if (!notice.value) return null;
  const { text, isError, action } = notice.value;
  return (
    <div class={isError ? "notice error" : "notice"} role={isError ? "alert" : "status"}>
      <span>{text}</span>
      {action && <button type="button" class="link" onClick={() => ((notice.value = null), action.run())}>{action.label}</button>}
      <IconButton icon="close" label="Dismiss" onClick={() => (notice.value = null)} />
    </div>
  );
}

function Composer() {
  const box = useRef<HTMLTextAreaElement>(null);
  const isBusy = running.value !== null;
  const text = draft.value;
  const canSend = () => draft.value.trim() !== "" && running.value === null && connection.value === "open";
  const submit = () => canSend() && void send(draft.value.trim());
  useLayoutEffect(() => {
    box.current!.style.height = "auto";
    box.current!.style.height = `${box.current!.scrollHeight + 2}px`;
  }, [text]);
  useEffect(() => box.current!.focus(), [current.value.id]);
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      submit();
    }
    const last = shownTurns.value.findLast((turn) => turn.role === "user");
    if (event.key === "ArrowUp" && draft.value === "" && last && !isBusy) {
      event.preventDefault();
      editing.value = { id: last.id, text: last.content };
    }
  };
  return (
    <form class="composer" onSubmit={(event) => (event.preventDefault(), submit())}>
      <textarea
        id="prompt" ref={box} rows={1} value={text} dir="auto" placeholder="Write a message" aria-label="Your message"
        onInput={(event) => (draft.value = event.currentTarget.value)} onKeyDown={onKeyDown}
      />
      {isBusy
        ? <button type="button" class="main round" aria-label="Stop" title="Stop (Esc)" onClick={stop}><Icon name="stop" /></button>
        : <button type="submit" class="main round" aria-label="Send" title="Send (Enter)" disabled={!canSend()}><Icon name="send" /></button>}
    </form>
  );
}

export function Chat() {
  const area = useRef<HTMLDivElement>(null);
  const follows = useRef(true);
  const [isAway, setAway] = useState(false);
  const turns = shownTurns.value;
  const toEnd = () => {
    area.current!.scrollTop = area.current!.scrollHeight;
    follows.current = true;
    setAway(false);
  };
  /* The end is followed only while it is in view: a reader who scrolls up stays where they are. */
  useEffect(() => {
    const watch = new ResizeObserver(() => follows.current && area.current && (area.current.scrollTop = area.current.scrollHeight));
    watch.observe(area.current!.firstElementChild!);
    return () => watch.disconnect();
  }, []);
  useEffect(toEnd, [current.value.id, turns.length]);
  const onScroll = () => {
    if (!area.current) return; // the event may come after the conversation has gone
    const { scrollTop, scrollHeight, clientHeight } = area.current;
    follows.current = scrollHeight - scrollTop - clientHeight < NEAR;
    setAway(!follows.current);
  };
  return (
    <main>
      <div class="scroll" ref={area} onScroll={onScroll}>
        <div class="column" role="log" aria-label="Conversation">
          {turns.length === 0 && <Welcome />}
          {turns.map((turn, index) => <TurnView key={turn.id} turn={turn} isLast={index === turns.length - 1} />)}
        </div>
      </div>
      <div class="foot">
        {isAway && <IconButton icon="down" label="Scroll to the end" class="to-end" onClick={toEnd} />}
        <NoticeBar />
        <Composer />
      </div>
    </main>
  );
}
