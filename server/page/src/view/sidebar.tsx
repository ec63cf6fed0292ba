/* The list of conversations: search, rename, delete, export, import. */
import { useRef, useState } from "preact/hooks";
import { exported, imported, save } from "../chat/exchange";
import { begin, chats, connection, currentId, drop, fail, notice, panel, put, update } from "../chat/state";
import { titleOf } from "../chat/tree";
import type { Conversation } from "../chat/types";
import { Icon, IconButton } from "./icon";

/* Whether a conversation's title or any of its texts, in any version, has all words. */
function matches(chat: Conversation, words: string[]): boolean {
  const text = [titleOf(chat), chat.text, chat.system, ...Object.values(chat.turns).map((turn) => turn.content)].join("\n").toLowerCase();
  return words.every((word) => text.includes(word));
}

function Item({ chat }: { chat: Conversation }) {
  const [name, setName] = useState<string | null>(null);
  const title = titleOf(chat);
  const open = () => {
    currentId.value = chat.id;
    notice.value = null;
    if (panel.value === "chats") panel.value = "";
  };
  const rename = () => {
    if (name !== null) update(chat.id, (edited) => void (edited.title = name.trim()));
    setName(null);
  };
  if (name !== null)
    return (
      <li>
        <input
          value={name} aria-label="Name of the conversation" onInput={(event) => setName(event.currentTarget.value)} onBlur={rename}
          ref={(input) => input?.focus()}
          onKeyDown={(event) => {
            if (event.key === "Enter") rename();
            if (event.key === "Escape") setName(null);
          }}
        />
      </li>
    );
  return (
    <li class={currentId.value === chat.id ? "current" : ""}>
      <button type="button" class="title" dir="auto" aria-current={currentId.value === chat.id ? "page" : undefined} onClick={open}>{title}</button>
      <span class="item-actions">
        <IconButton icon="edit" label={`Rename ${title}`} onClick={() => setName(title)} />
        <IconButton icon="out" label={`Export ${title}`} onClick={() => save("conversation.json", exported([chat]))} />
        <IconButton icon="trash" label={`Delete ${title}`} onClick={() => drop(chat)} />
      </span>
    </li>
  );
}

export function Sidebar() {
  const [query, setQuery] = useState("");
  const file = useRef<HTMLInputElement>(null);
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const found = chats.value.filter((chat) => matches(chat, words)).sort((a, b) => b.updated - a.updated);
  const read = async (input: HTMLInputElement) => {
    try {
      const text = await input.files![0].text();
      const added = imported(text, new Set(chats.value.map((chat) => chat.id)));
      added.forEach(put);
      notice.value = { text: `${added.length} conversation${added.length === 1 ? "" : "s"} imported.`, isError: false };
    } catch (error) {
      fail(`The import failed. ${(error as Error).message}`);
    }
    input.value = "";
  };
  return (
    <nav class="side" aria-label="Conversations">
      <div class="side-head">
        <p class="brand">verbatim<span aria-hidden="true">.</span></p>
        <IconButton icon="close" label="Close the list" class="only-narrow" onClick={() => (panel.value = "")} />
      </div>
      <button type="button" class="new" title="Ctrl+Shift+O" onClick={begin}><Icon name="plus" /> New chat</button>
      <input
        id="search" type="search" placeholder="Search" aria-label="Search conversations" value={query}
        onInput={(event) => setQuery(event.currentTarget.value)}
      />
      {found.length === 0 && <p class="faint none">{words.length ? "Nothing found." : "No conversations yet."}</p>}
      <ul class="chats">
        {found.map((chat) => <Item key={chat.id} chat={chat} />)}
      </ul>
      <div class="side-foot">
        <div class="row">
          <button type="button" class="link" disabled={!chats.value.length} onClick={() => save("conversations.json", exported(chats.value))}>Export all</button>
          <button type="button" class="link" onClick={() => file.current!.click()}>Import</button>
          <input type="file" accept="application/json,.json" hidden ref={file} aria-label="File to import" onChange={(event) => void read(event.currentTarget)} />
          <a href="/docs" target="_blank" rel="noopener">API docs</a>
        </div>
        <p class="faint" role="status">{connection.value === "lost" ? "No connection to the server" : ""}</p>
      </div>
    </nav>
  );
}
