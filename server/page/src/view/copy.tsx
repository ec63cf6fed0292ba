/* Buttons that copy: a tick tells that it worked. */
import { useState } from "preact/hooks";
import { IconButton } from "./icon";

/* Put a text on the clipboard; where the browser forbids it (no HTTPS), by a selection. */
export async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

export function CopyButton({ text, label = "Copy" }: { text: () => string; label?: string }) {
  const [isDone, setDone] = useState(false);
  const run = async () => {
    await copy(text());
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return <IconButton icon={isDone ? "check" : "copy"} label={isDone ? "Copied" : label} onClick={run} />;
}
