/* Dialogs above the page: the conversation as code, the API key, the keyboard. */
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { codeOf, LANGUAGES, type Language } from "../chat/code";
import { current, dialog, useKey } from "../chat/state";
import { loadKey } from "../chat/storage";
import { CopyButton } from "./copy";
import { IconButton } from "./icon";

const KEYS = [
  ["Enter", "send"], ["Shift+Enter", "a new line"], ["Esc", "stop the answer, close what is open"], ["↑", "in an empty box: edit the last message"],
  ["Ctrl+K", "search conversations"], ["Ctrl+Shift+O", "a new chat"], ["Ctrl+Enter", "continue a text"],
  ["Arrow keys, Enter", "in the token view: move, show candidates"],
];

function Dialog({ title, children }: { title: string; children: ComponentChildren }) {
  const box = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => box.current!.showModal(), []);
  return (
    <dialog ref={box} aria-label={title} onClose={() => (dialog.value = "")} onClick={(event) => event.target === box.current && box.current?.close()}>
      <div class="dialog">
        <div class="row between">
          <h2>{title}</h2>
          <IconButton icon="close" label="Close" onClick={() => box.current!.close()} />
        </div>
        {children}
      </div>
    </dialog>
  );
}

function CodeDialog() {
  const [language, setLanguage] = useState<Language>("curl");
  let text: string;
  try {
    text = codeOf(current.value, language);
  } catch (error) {
    text = (error as Error).message;
  }
  return (
    <Dialog title="This chat as code">
      <div class="row tabs" role="group" aria-label="Language">
        {LANGUAGES.map((name) => (
          <button type="button" key={name} aria-pressed={name === language} onClick={() => setLanguage(name)}>{name}</button>
        ))}
        <span class="spring" />
        <CopyButton text={() => text} label="Copy code" />
      </div>
      <pre class="program" tabIndex={0} role="region" aria-label="Code">{text}</pre>
    </Dialog>
  );
}

function KeyDialog() {
  const [key, setKey] = useState(loadKey());
  return (
    <Dialog title="API key">
      <form onSubmit={(event) => (event.preventDefault(), useKey(key.trim()))}>
        <p>The key of this server. It is kept until the tab closes.</p>
        <div class="row">
          <input id="key" type="password" autofocus autocomplete="off" aria-label="API key" value={key} onInput={(event) => setKey(event.currentTarget.value)} />
          <button type="submit" class="main">Use</button>
        </div>
      </form>
    </Dialog>
  );
}

function KeysDialog() {
  return (
    <Dialog title="Keyboard">
      <dl class="keys">
        {KEYS.map(([key, text]) => <div key={key}><dt><kbd>{key}</kbd></dt><dd>{text}</dd></div>)}
      </dl>
    </Dialog>
  );
}

export function Dialogs() {
  if (dialog.value === "code") return <CodeDialog />;
  if (dialog.value === "key") return <KeyDialog />;
  return dialog.value === "keys" ? <KeysDialog /> : null;
}
