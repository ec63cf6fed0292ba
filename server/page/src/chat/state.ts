/* The page's state as signals, and how it is kept. */
import { batch, computed, effect, signal } from "@preact/signals";
import { ApiError, hasTemplate, listModels, setKey } from "./api";
import { loadAll, loadKey, loadSettings, discard, store, storeKey, storeSettings, type Settings } from "./storage";
import { newConversation, path } from "./tree";
import type { Conversation, Model, Sampling } from "./types";

const KEEP_MS = 300;

export interface Notice {
  text: string;
  isError: boolean;
  action?: { label: string; run: () => void };
}

export const settings = signal<Settings>(loadSettings());
export const models = signal<Model[]>([]);
export const connection = signal<"connecting" | "open" | "lost" | "locked">("connecting");
export const chats = signal<Conversation[]>([]);
export const fresh = signal<Conversation>(newConversation(""));
export const currentId = signal("");
export const draft = signal("");
export const notice = signal<Notice | null>(null);
/* The panel that is open beside the conversation, and the dialog above it. */
export const panel = signal<"" | "settings" | "chats">("");
export const dialog = signal<"" | "code" | "key" | "keys">("");
/* The user's turn that is being edited, with its text. */
export const editing = signal<{ id: string; text: string } | null>(null);

export const current = computed(() => chats.value.find((chat) => chat.id === currentId.value) ?? fresh.value);
export const shownTurns = computed(() => path(current.value));
export const sampling = computed<Sampling>(() => settings.value.sampling[current.value.model] ?? {});
export const model = computed(() => models.value.find((item) => item.id === current.value.model));

effect(() => storeSettings(settings.value));

export function change(values: Partial<Settings>): void {
  settings.value = { ...settings.value, ...values };
}

export function setSampling(name: string, text: string): void {
  const id = current.value.model;
  change({ sampling: { ...settings.value.sampling, [id]: { ...settings.value.sampling[id], [name]: text } } });
}

export function fail(text: string): void {
  notice.value = { text, isError: true };
}

/* Change a conversation and show the change; `isKept` false while an answer is still being written. */
export function update(id: string, edit: (chat: Conversation) => void, isKept = true): void {
  if (fresh.value.id === id) {
    const chat = { ...fresh.value };
    edit(chat);
    const isEmpty = Object.keys(chat.turns).length === 0 && chat.text === "";
    batch(() => {
      fresh.value = chat;
      if (isEmpty) return;
      chats.value = [{ ...chat, updated: Date.now() }, ...chats.value];
      currentId.value = chat.id;
      fresh.value = newConversation(chat.model);
    });
  } else {
    chats.value = chats.value.map((chat) => {
      if (chat.id !== id) return chat;
      const changed = { ...chat };
      edit(changed);
      if (changed.turns !== chat.turns || changed.text !== chat.text) changed.updated = Date.now();
      return changed;
    });
  }
  if (isKept) keep(id);
}

export function find(id: string): Conversation {
  return chats.value.find((chat) => chat.id === id) ?? fresh.value;
}

const waiting = new Map<string, number>();

/* Keep a conversation: at once, or after a moment if it was kept just before (while somebody types). */
function keep(id: string): void {
  if (waiting.has(id)) return void waiting.set(id, 2);
  waiting.set(id, 1);
  void write(id);
  setTimeout(() => {
    const isChanged = waiting.get(id) === 2;
    waiting.delete(id);
    if (isChanged) keep(id);
  }, KEEP_MS);
}

async function write(id: string): Promise<void> {
  const chat = chats.value.find((item) => item.id === id);
  if (!chat) return;
  try {
    await store(chat);
  } catch (error) {
    const isFull = (error as Error)?.name === "QuotaExceededError";
    fail(isFull
      ? "The browser has no space left for conversations. Export them, then delete some."
      : "This browser keeps nothing for this page: the conversation is lost when it closes.");
  }
}

/* Put a conversation into the list, and keep it. */
export function put(chat: Conversation): void {
  chats.value = [chat, ...chats.value.filter((item) => item.id !== chat.id)].sort((a, b) => b.updated - a.updated);
  keep(chat.id);
}

export function drop(chat: Conversation): void {
  chats.value = chats.value.filter((item) => item.id !== chat.id);
  if (currentId.value === chat.id) currentId.value = "";
  discard(chat.id).catch(() => {});
  notice.value = { text: "The conversation was deleted.", isError: false, action: { label: "Undo", run: () => put(chat) } };
}

/* Begin a new conversation; system message, tools and schema begin empty. */
export function begin(): void {
  const id = current.value.model;
  batch(() => {
    const mode = models.value.find((item) => item.id === id)?.hasTemplate === false ? "text" : "chat";
    fresh.value = { ...newConversation(id), mode };
    currentId.value = "";
    editing.value = notice.value = null;
    if (panel.value === "chats") panel.value = "";
  });
}

export async function chooseModel(id: string): Promise<void> {
  change({ model: id });
  update(current.value.id, (chat) => void (chat.model = id), current.value.id === currentId.value);
  const chosen = models.value.find((item) => item.id === id);
  if (!chosen || chosen.hasTemplate !== undefined) return adapt();
  const can = await hasTemplate(id);
  models.value = models.value.map((item) => (item.id === id ? { ...item, hasTemplate: can } : item));
  adapt();
}

/* An empty conversation is of the form that its model can do. */
function adapt(): void {
  const isNew = current.value.id === fresh.value.id;
  if (isNew && model.value?.hasTemplate !== undefined)
    fresh.value = { ...fresh.value, mode: model.value.hasTemplate ? "chat" : "text" };
}

export function useKey(key: string): void {
  setKey(key);
  storeKey(key);
  dialog.value = "";
  connection.value = "connecting";
  void connect();
}

let retry = 0;

/* Ask for the models; once a second again while there is no server. */
export async function connect(): Promise<void> {
  clearTimeout(retry);
  try {
    models.value = (await listModels()).map((item) => ({
      ...item, hasTemplate: models.value.find((known) => known.id === item.id)?.hasTemplate,
    }));
    connection.value = "open";
    const known = (id: string) => models.value.some((item) => item.id === id);
    const wanted = [current.value.model, settings.value.model].find(known) ?? models.value[0]?.id ?? "";
    await chooseModel(wanted);
  } catch (error) {
    if ((error as ApiError).status === 401) {
      connection.value = "locked";
      dialog.value = "key";
      return;
    }
    connection.value = "lost";
    retry = window.setTimeout(connect, 2000);
  }
}

export async function start(): Promise<void> {
  setKey(loadKey());
  await Promise.all([
    connect(),
    loadAll().then(
      (kept) => {
        const begun = chats.value; // somebody may have been quicker than the browser's database
        const rest = kept.filter((chat) => !begun.some((other) => other.id === chat.id));
        chats.value = [...begun, ...rest.sort((a, b) => b.updated - a.updated)];
      },
      () => {},
    ),
  ]);
}
