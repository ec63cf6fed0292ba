/* The tools of a conversation, as a form or as the API's JSON. */
import { useState } from "preact/hooks";
import { current, update } from "../chat/state";
import { readTools, TYPES, WEATHER, writeTools, type Parameter, type Tool } from "../chat/tools";
import { IconButton } from "./icon";

const BLANK: Parameter = { name: "", type: "string", description: "", isRequired: true };

function setTools(text: string): void {
  update(current.value.id, (chat) => void (chat.tools = text));
}

function ParameterRow({ row, change, drop }: { row: Parameter; change: (row: Parameter) => void; drop: () => void }) {
  return (
    <div class="parameter">
      <input class="mono" value={row.name} placeholder="name" aria-label="Parameter's name" onInput={(event) => change({ ...row, name: event.currentTarget.value })} />
      <select value={row.type} aria-label="Parameter's type" onChange={(event) => change({ ...row, type: event.currentTarget.value })}>
        {TYPES.map((type) => <option key={type}>{type}</option>)}
      </select>
      <IconButton icon="close" label={`Remove parameter ${row.name}`} onClick={drop} />
      <input value={row.description} placeholder="what it means" aria-label="Parameter's meaning" onInput={(event) => change({ ...row, description: event.currentTarget.value })} />
      <label class="check">
        <input type="checkbox" checked={row.isRequired} onChange={(event) => change({ ...row, isRequired: event.currentTarget.checked })} /> required
      </label>
    </div>
  );
}

function ToolFields({ tool, change, drop }: { tool: Tool; change: (tool: Tool) => void; drop: () => void }) {
  const { parameters } = tool;
  const put = (index: number, row?: Parameter) =>
    change({ ...tool, parameters: row ? parameters!.with(index, row) : parameters!.toSpliced(index, 1) });
  return (
    <fieldset class="tool-fields">
      <legend class="hidden">Tool {tool.name}</legend>
      <div class="row">
        <input class="mono" value={tool.name} placeholder="name" aria-label="Tool's name" onInput={(event) => change({ ...tool, name: event.currentTarget.value })} />
        <IconButton icon="trash" label={`Remove tool ${tool.name}`} onClick={drop} />
      </div>
      <input value={tool.description} placeholder="what it does" aria-label="What the tool does" onInput={(event) => change({ ...tool, description: event.currentTarget.value })} />
      {parameters === null
        ? <p class="faint">Its parameters are more than this form can show: edit them as JSON.</p>
        : (
          <>
            {parameters.map((row, index) => (
              <ParameterRow key={index} row={row} change={(changed) => put(index, changed)} drop={() => put(index)} />
            ))}
            <button type="button" class="link" onClick={() => change({ ...tool, parameters: [...parameters, BLANK] })}>Add parameter</button>
          </>
        )}
    </fieldset>
  );
}

export function ToolForm() {
  const { tools: text, toolChoice } = current.value;
  const [isJson, setJson] = useState(false);
  const tools = readTools(text);
  const showsJson = isJson || tools === null;
  const add = (tool: Tool) => setTools(writeTools([...(tools ?? []), tool]));
  return (
    <section class="group">
      <div class="row between">
        <h3>Tools</h3>
        <button type="button" class="link" disabled={tools === null} onClick={() => setJson(!isJson)}>{showsJson ? "As a form" : "As JSON"}</button>
      </div>
      {showsJson
        ? <textarea class="mono" rows={8} spellcheck={false} aria-label="Tools as JSON" value={text} onInput={(event) => setTools(event.currentTarget.value)} />
        : tools.map((tool, index) => (
          <ToolFields
            key={index} tool={tool} change={(changed) => setTools(writeTools(tools.with(index, changed)))}
            drop={() => setTools(writeTools(tools.toSpliced(index, 1)))}
          />
        ))}
      {tools === null && <p class="wrong" role="alert">This is not a JSON array of tools.</p>}
      {!showsJson && (
        <div class="row">
          <button type="button" onClick={() => add({ name: "", description: "", parameters: [BLANK], schema: {} })}>Add tool</button>
          {tools.length === 0 && <button type="button" onClick={() => add(WEATHER)}>Example</button>}
        </div>
      )}
      {tools !== null && tools.length > 0 && (
        <label>
          The model
          <select value={toolChoice} onChange={(event) => update(current.value.id, (chat) => void (chat.toolChoice = event.currentTarget.value))}>
            <option value="auto">may call them</option>
            <option value="required">must call one</option>
            <option value="none">does not see them</option>
          </select>
        </label>
      )}
    </section>
  );
}
