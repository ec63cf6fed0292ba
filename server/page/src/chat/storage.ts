/* Conversations in the browser's IndexedDB, settings in its localStorage; without either, in memory until the page closes. */
import type { Conversation, Sampling } from "./types";

const NAME = "verbatim";
const STORE = "conversations";
const SETTINGS = "verbatim-settings";

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

let opened: Promise<IDBDatabase> | undefined;

function open(): Promise<IDBDatabase> {
  return (opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  }));
}

export async function loadAll(): Promise<Conversation[]> {
  const database = await open();
  return done(database.transaction(STORE).objectStore(STORE).getAll());
}

/* Store one conversation; rejects with a QuotaExceededError when the browser has no space left. */
export async function store(chat: Conversation): Promise<void> {
  const transaction = (await open()).transaction(STORE, "readwrite");
  transaction.objectStore(STORE).put(chat);
  await new Promise<void>((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = transaction.onerror = () => reject(transaction.error);
  });
}

export async function discard(id: string): Promise<void> {
  await done((await open()).transaction(STORE, "readwrite").objectStore(STORE).delete(id));
}

export interface Settings {
  model: string;
  theme: string;
  showsTokens: boolean;
  plain: boolean;
  sidebar: boolean;
  sampling: Record<string, Sampling>;
}

const DEFAULTS: Settings = { model: "", theme: "", showsTokens: false, plain: false, sidebar: true, sampling: {} };

export function loadSettings(): Settings {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(SETTINGS) ?? "{}") };
  } catch {
    return { ...DEFAULTS };
  }
}

export function storeSettings(settings: Settings): void {
  try {
    localStorage.setItem(SETTINGS, JSON.stringify(settings));
  } catch {
    /* A private window may refuse: the settings then last as long as the page. */
  }
}

/* The key lasts as long as the tab: it is a secret. */
export function loadKey(): string {
  try {
    return sessionStorage.getItem("verbatim-key") ?? "";
  } catch {
    return "";
  }
}

export function storeKey(key: string): void {
  try {
    sessionStorage.setItem("verbatim-key", key);
  } catch {
    /* see above */
  }
}
