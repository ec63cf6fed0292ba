/* The page's icons: strokes on a grid of 24. */
const PATHS: Record<string, string> = {
  menu: "M4 7h16M4 12h16M4 17h16",
  plus: "M12 5v14M5 12h14",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h10v11H9zM15 9V5H5v11h4",
  check: "M5 13l4 4L19 7",
  edit: "M4 20l4-1L19 8l-3-3L5 16zM14 7l3 3",
  again: "M20 11a8 8 0 1 0-2 6M20 5v6h-6",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  left: "M14 6l-6 6 6 6",
  right: "M10 6l6 6-6 6",
  down: "M12 5v14M6 13l6 6 6-6",
  close: "M6 6l12 12M18 6L6 18",
  code: "M8 7l-5 5 5 5M16 7l5 5-5 5",
  sliders: "M4 8h9M17 8h3M4 16h3M11 16h9M15 5.5v5M9 13.5v5",
  tokens: "M4 6h6v5H4zM12 6h8v5h-8zM4 13h9v5H4zM15 13h5v5h-5z",
  out: "M12 4v11M7 9l5-5 5 5M5 19h14",
  into: "M12 4v11M7 10l5 5 5-5M5 19h14",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  forward: "M5 12h13M13 6l6 6-6 6",
};

export function Icon({ name }: { name: string }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

/* A button that is an icon; its label is for tooltips and screen readers. */
export function IconButton(props: { icon: string; label: string; onClick: () => void; disabled?: boolean; pressed?: boolean; class?: string }) {
  return (
    <button
      type="button" class={`quiet ${props.class ?? ""}`} aria-label={props.label} title={props.label} onClick={props.onClick}
      disabled={props.disabled} aria-pressed={props.pressed}
    >
      <Icon name={props.icon} />
    </button>
  );
}
