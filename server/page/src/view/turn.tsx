/* One turn of a conversation with what can be done with it. */
import { useEffect, useRef, useState } from "preact/hooks";
import { branch, choose, prolong, regenerate, remove, resend, rewrite } from "../chat/actions";
import { running } from "../chat/answer";
import { current, editing, settings } from "../chat/state";
import { versions } from "../chat/tree";
import { split } from "../text/thinking";
import type { Stats, Turn } from "../chat/types";
import { Calls } from "./calls";
import { CopyButton } from "./copy";
import { IconButton } from "./icon";
import { PromptTokens } from "./prompt";
import { Rich } from "./rich";
import { TokenView } from "./tokenview";

const ENDS: Record<string, string> = {
  length: "cut off at the length limit", stopped: "stopped", "broken off": "broken off", tool_calls: "tool call", edited: "edited by hand",
};

/* The numbers of an answer in words. */
export function factsOf(stats: Stats = {}, finish = ""): string[] {
  const facts: string[] = [];
  const { completion, rest, first, accepted = 0, rejected = 0 } = stats;
  if (completion !== undefined) facts.push(`${completion} token${completion === 1 ? "" : "s"}`);
  if (completion && completion > 1 && rest) facts.push(`${((completion - 1) / rest).toFixed(0)} tokens/s`);
  if (first !== undefined) facts.push(`first after ${first.toFixed(2)} s`);
  if (stats.prompt !== undefined) facts.push(`prompt ${stats.prompt}, ${stats.cached ?? 0} cached`);
  if (accepted + rejected) facts.push(`${accepted} of ${accepted + rejected} draft tokens accepted`);
  if (ENDS[finish]) facts.push(ENDS[finish]);
  return facts;
}

/* Shown until the first token is there; after a second it counts. */
export function Waiting({ since }: { since: number }) {
  const [seconds, setSeconds] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => setSeconds(Math.floor((performance.now() - since) / 1000)), 250);
    return () => clearInterval(timer);
  }, [since]);
  return (
    <p class="waiting" role="status">
      <span class="dots" aria-hidden="true"><i /><i /><i /></span>
      <span class="hidden">Waiting for the first token</span>
      {seconds > 0 && <span aria-hidden="true"> {seconds} s</span>}
    </p>
  );
}

function Versions({ turn }: { turn: Turn }) {
  const all = versions(current.value, turn.parent);
  const index = all.findIndex((other) => other.id === turn.id);
  if (all.length < 2) return null;
  return (
    <span class="versions">
      <IconButton icon="left" label="Previous version" disabled={index === 0} onClick={() => choose(all[index - 1])} />
      <span aria-label={`Version ${index + 1} of ${all.length}`}>{index + 1}/{all.length}</span>
      <IconButton icon="right" label="Next version" disabled={index === all.length - 1} onClick={() => choose(all[index + 1])} />
    </span>
  );
}

function Editor({ turn }: { turn: Turn }) {
  const { text } = editing.value!;
  const box = useRef<HTMLTextAreaElement>(null);
  const isMine = turn.role === "user";
  useEffect(() => box.current!.focus(), []);
  const save = () => {
    const latest = editing.value?.text ?? "";
    if (latest.trim()) void (isMine ? resend(turn, latest) : rewrite(turn, latest));
  };
  return (
    <form class="editor" onSubmit={(event) => (event.preventDefault(), save())}>
      <textarea
        ref={box} value={text} dir="auto" aria-label={isMine ? "Your message in other words" : "The answer in other words"}
        onInput={(event) => (editing.value = { id: turn.id, text: event.currentTarget.value })}
        onKeyDown={(event) => {
          if (event.key === "Escape") editing.value = null;
          if (event.key !== "Enter" || event.isComposing || (isMine ? event.shiftKey : !event.ctrlKey && !event.metaKey)) return;
          event.preventDefault();
          save();
        }}
      />
      <div class="row end">
        <button type="button" onClick={() => (editing.value = null)}>Cancel</button>
        <button type="submit" class="main" disabled={!text.trim() || running.value !== null}>{isMine ? "Send" : "Save"}</button>
      </div>
    </form>
  );
}

function Answer({ turn, isGrowing }: { turn: Turn; isGrowing: boolean }) {
  const { thinking, answer, isThinking } = split(turn.content, turn.reasoning);
  const shows = settings.value.showsTokens && turn.tokens?.length;
  if (shows)
    return (
      <>
        <TokenView tokens={turn.tokens!} onBranch={isGrowing || turn.calls?.length ? undefined : (index, item) => void branch(turn, index, item)} />
        {turn.stats?.prompt !== undefined && <PromptTokens turn={turn} />}
      </>
    );
  return (
    <>
      {thinking && (
        <details class="thinking">
          <summary>{isThinking && isGrowing ? "Thinking …" : "Thoughts"}</summary>
          <Rich text={thinking} isGrowing={isGrowing} />
        </details>
      )}
      {turn.isJson || settings.value.plain
        ? <div class={turn.isJson ? "plain mono" : "plain"} dir="auto">{answer}</div>
        : <Rich text={answer} isGrowing={isGrowing} />}
    </>
  );
}

function Actions({ turn, isLast }: { turn: Turn; isLast: boolean }) {
  const isBusy = running.value !== null;
  const canContinue = isLast && turn.role === "assistant" && turn.content !== "" && !turn.calls?.length
    && ["length", "stopped", "broken off", "edited"].includes(turn.finish ?? "");
  return (
    <div class="actions" role="group" aria-label="Actions">
      <Versions turn={turn} />
      <CopyButton text={() => turn.content || JSON.stringify(turn.calls, null, 2)} label="Copy text" />
      <IconButton icon="edit" label="Edit" disabled={isBusy} onClick={() => (editing.value = { id: turn.id, text: turn.content })} />
      {turn.role === "assistant" && <IconButton icon="again" label="Regenerate" disabled={isBusy} onClick={() => void regenerate(turn)} />}
      {canContinue && <IconButton icon="forward" label="Continue this answer" disabled={isBusy} onClick={() => void prolong(turn)} />}
      <IconButton icon="trash" label="Delete, with what follows" disabled={isBusy} onClick={() => remove(turn)} />
    </div>
  );
}

export function TurnView({ turn: kept, isLast }: { turn: Turn; isLast: boolean }) {
  const live = running.value?.turn.id === kept.id ? running.value : null;
  const turn = live?.turn ?? kept;
  const isEdited = editing.value?.id === turn.id;
  if (turn.role === "tool")
    return <article class="turn tool" aria-label="Tool's answer"><div class="plain mono" dir="auto">{turn.content || "(empty)"}</div></article>;
  const isWaiting = live !== null && turn.content === "" && !turn.reasoning && !turn.calls?.length;
  const facts = factsOf(turn.stats, turn.finish);
  return (
    <article class={`turn ${turn.role}`} aria-label={turn.role === "user" ? "You" : (turn.model ?? "Assistant")} aria-busy={live !== null}>
      {isEdited ? <Editor turn={turn} /> : turn.role === "user"
        ? <div class="bubble plain" dir="auto">{turn.content}</div>
        : <Answer turn={turn} isGrowing={live !== null} />}
      {isWaiting && <Waiting since={live.began} />}
      {turn.calls?.length ? <Calls turn={turn} isLast={isLast} /> : null}
      {turn.error && <p class="wrong">{turn.error}</p>}
      {!live && !isEdited && (
        <footer>
          <Actions turn={turn} isLast={isLast} />
          {facts.length > 0 && <p class="facts">{facts.join(" · ")}</p>}
        </footer>
      )}
    </article>
  );
}
