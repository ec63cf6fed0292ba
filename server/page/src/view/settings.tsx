/* The panel of settings: those of the conversation, those of its model, and those of the page. */
import { chats, change, current, dialog, model, panel, sampling, setSampling, settings, update } from "../chat/state";
import type { Conversation } from "../chat/types";
import { IconButton } from "./icon";
import { ToolForm } from "./toolform";

/* Name, label, hint, step. */
const FIELDS: [string, string, string, string][] = [
  ["temperature", "Temperature", "0 always takes the likeliest token", "0.1"],
  ["top_p", "Top p", "sample among the likeliest tokens that have this share", "0.05"],
  ["top_k", "Top k", "sample among so many tokens", "1"],
  ["min_p", "Min p", "leave out tokens below this share of the likeliest", "0.01"],
  ["max_tokens", "Max tokens", "an answer is cut off there", "1"],
  ["seed", "Seed", "the same seed gives the same answer", "1"],
  ["repetition_penalty", "Repetition penalty", "above 1, tokens that occurred get less likely", "0.05"],
  ["frequency_penalty", "Frequency penalty", "above 0, less likely with each time", "0.1"],
  ["presence_penalty", "Presence penalty", "above 0, less likely once they occurred", "0.1"],
];
const SCHEMA = `{
  "type": "object",
  "properties": {
    "answer": {"type": "string"},
    "number": {"type": "integer"}
  },
  "required": ["answer", "number"],
  "additionalProperties": false
}`;

function edit(values: Partial<Conversation>): void {
  update(current.value.id, (chat) => void Object.assign(chat, values));
}

function isJson(text: string): boolean {
  try {
    return typeof JSON.parse(text) === "object";
  } catch {
    return false;
  }
}

function SchemaBox() {
  const { schema } = current.value;
  const isWrong = schema.trim() !== "" && !isJson(schema);
  return (
    <section class="group">
      <div class="row between">
        <h3><label for="schema">Answer as JSON</label></h3>
        {schema === ""
          ? <button type="button" class="link" onClick={() => edit({ schema: SCHEMA })}>Example</button>
          : <button type="button" class="link" onClick={() => edit({ schema: "" })}>Clear</button>}
      </div>
      <textarea
        id="schema" class="mono" rows={schema ? 9 : 2} spellcheck={false} placeholder="A JSON schema that the answer must fit" value={schema}
        aria-invalid={isWrong} onInput={(event) => edit({ schema: event.currentTarget.value })}
      />
      {isWrong && <p class="wrong" role="alert">This is not a JSON object.</p>}
    </section>
  );
}

function SamplingFields() {
  return (
    <section class="group">
      <h3>Sampling <span class="faint">of {current.value.model}</span></h3>
      <div class="fields">
        {FIELDS.map(([name, label, hint, step]) => (
          <label key={name} title={hint}>
            {label}
            <input
              id={name} type="number" step={step} placeholder={String(model.value?.defaults[name] ?? "default")} value={sampling.value[name] ?? ""}
              onInput={(event) => setSampling(name, event.currentTarget.value)}
            />
          </label>
        ))}
      </div>
      <label>
        Stop texts, one a line
        <textarea id="stop" class="mono" rows={1} value={sampling.value.stop ?? ""} onInput={(event) => setSampling("stop", event.currentTarget.value)} />
      </label>
    </section>
  );
}

function PageFields() {
  const { theme, plain } = settings.value;
  return (
    <section class="group">
      <h3>Page</h3>
      <label>
        Colours
        <select value={theme} onChange={(event) => change({ theme: event.currentTarget.value })}>
          <option value="">as the system</option>
          <option value="light">light</option>
          <option value="dark">dark</option>
        </select>
      </label>
      <label class="check">
        <input type="checkbox" checked={plain} onChange={(event) => change({ plain: event.currentTarget.checked })} /> Answers as plain text
      </label>
      <button type="button" class="link" onClick={() => (dialog.value = "key")}>API key</button>
      <button type="button" class="link" onClick={() => (dialog.value = "keys")}>Keyboard</button>
    </section>
  );
}

export function SettingsPanel() {
  const { mode, system } = current.value;
  const isStarted = chats.value.some((chat) => chat.id === current.value.id);
  return (
    <aside class="settings" aria-label="Settings">
      <div class="row between">
        <h2>Settings</h2>
        <IconButton icon="close" label="Close settings" onClick={() => (panel.value = "")} />
      </div>
      <section class="group">
        <label>
          Mode
          <select id="mode" value={mode} disabled={isStarted} onChange={(event) => edit({ mode: event.currentTarget.value as Conversation["mode"] })}>
            <option value="chat">Chat</option>
            <option value="text">Continue a text</option>
          </select>
        </label>
        {isStarted && <p class="faint">A new chat can have another mode.</p>}
        {mode === "chat" && model.value?.hasTemplate === false && (
          <p class="wrong">This model has no chat template: it can only continue texts.</p>
        )}
      </section>
      {mode === "chat" && (
        <>
          <section class="group">
            <h3><label for="system">System message</label></h3>
            <textarea id="system" rows={3} dir="auto" placeholder="Who the model should be" value={system} onInput={(event) => edit({ system: event.currentTarget.value })} />
          </section>
          <ToolForm />
          <SchemaBox />
        </>
      )}
      <SamplingFields />
      <PageFields />
    </aside>
  );
}
