/* The page: list of conversations, header, conversation, settings. */
import { useEffect } from "preact/hooks";
import { running, stop, toggleTokens } from "../chat/answer";
import { begin, change, chooseModel, connection, current, dialog, model, models, panel, settings } from "../chat/state";
import { Chat } from "./chat";
import { Dialogs } from "./dialogs";
import { IconButton } from "./icon";
import { SettingsPanel } from "./settings";
import { Sidebar } from "./sidebar";
import { TextMode } from "./text";

const isNarrow = () => matchMedia("(max-width: 52rem)").matches;

/* On a wide screen the list stands beside the conversation, on a narrow one it covers it. */
function toggleList(): void {
  if (isNarrow()) panel.value = panel.value === "chats" ? "" : "chats";
  else change({ sidebar: !settings.value.sidebar });
}

function openSearch(): void {
  if (isNarrow()) panel.value = "chats";
  else change({ sidebar: true });
  requestAnimationFrame(() => document.getElementById("search")?.focus());
}

function onKeyDown(event: KeyboardEvent): void {
  const isCommand = event.ctrlKey || event.metaKey;
  if (event.key === "Escape" && !document.querySelector("dialog[open], .card")) {
    if (running.value) stop();
    else panel.value = "";
  } else if (isCommand && event.key.toLowerCase() === "k") {
    event.preventDefault();
    openSearch();
  } else if (isCommand && event.shiftKey && event.key.toLowerCase() === "o") {
    event.preventDefault();
    begin();
  }
}

const STATES = { connecting: "Connecting …", open: "", lost: "No connection", locked: "An API key is needed" };

function Header() {
  const known = models.value;
  const shows = settings.value.showsTokens;
  return (
    <header class="bar">
      <h1 class="hidden">verbatim</h1>
      <IconButton icon="menu" label="Conversations" onClick={toggleList} />
      {known.length > 0 && (
        <select
          id="model" class="model" aria-label="Model" title={model.value?.context ? `Context of ${model.value.context} tokens` : ""} value={current.value.model}
          onChange={(event) => void chooseModel(event.currentTarget.value)}
        >
          {!known.some((item) => item.id === current.value.model) && (
            <option value={current.value.model} disabled>{current.value.model} (not served)</option>
          )}
          {known.map((item) => <option key={item.id} value={item.id}>{item.id}</option>)}
        </select>
      )}
      {current.value.mode === "text" && <span class="badge">text</span>}
      <span class="state" role="status">{STATES[connection.value]}</span>
      <span class="spring" />
      <IconButton icon="tokens" label="Show tokens and their probabilities" pressed={shows} onClick={toggleTokens} />
      <IconButton icon="code" label="This chat as code" onClick={() => (dialog.value = "code")} />
      <IconButton icon="plus" label="New chat" class="only-narrow" onClick={begin} />
      <IconButton
        icon="sliders" label="Settings" pressed={panel.value === "settings"}
        onClick={() => (panel.value = panel.value === "settings" ? "" : "settings")}
      />
    </header>
  );
}

export function App() {
  useEffect(() => {
    document.addEventListener("keydown", onKeyDown);
    return () => document.removeEventListener("keydown", onKeyDown);
  }, []);
  useEffect(() => {
    document.documentElement.style.colorScheme = settings.value.theme || "light dark";
  }, [settings.value.theme]);
  const isBeside = settings.value.sidebar;
  return (
    <div class={`page${isBeside ? " with-side" : ""}${panel.value ? ` with-${panel.value}` : ""}`}>
      <Sidebar />
      <div class="middle">
        <Header />
        {current.value.mode === "text" ? <TextMode /> : <Chat />}
      </div>
      {panel.value === "settings" && <SettingsPanel />}
      <Dialogs />
    </div>
  );
}
