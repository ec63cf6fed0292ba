/* An answer as the tokens that the model chose, coloured by their probability; each opens a card of its candidates. */
import { Component } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { isControl, percent, textsOf, visible } from "../text/tokens";
import type { Candidate, Token } from "../chat/types";

const GROUP = 200;

/* A run of tokens; it is drawn again only if its tokens or the chosen one of them change. */
class Group extends Component<{ tokens: Token[]; texts: string[]; start: number; active: number }> {
  shouldComponentUpdate(next: this["props"]) {
    const inside = (index: number) => index >= next.start && index < next.start + GROUP;
    const isMoved = next.active !== this.props.active && (inside(next.active) || inside(this.props.active));
    return isMoved || next.tokens.length !== this.props.tokens.length || next.tokens[0] !== this.props.tokens[0];
  }

  render({ tokens, texts, start, active }: this["props"]) {
    return tokens.map((token, index) => (
      <span
        key={start + index} data-index={start + index}
        class={`token${texts[index] === "" ? " part" : ""}${start + index === active ? " active" : ""}`}
        style={{ "--doubt": String(1 - Math.exp(token.l)) }}
      >
        {texts[index]}
      </span>
    ));
  }
}

/* The candidates for one place; choosing another than the model's continues the answer from there. */
function Card(props: { token: Token; place: DOMRect; onChoose?: (candidate: Candidate) => void; onClose: () => void }) {
  const { token, place, onChoose, onClose } = props;
  const box = useRef<HTMLDivElement>(null);
  const same = (candidate: Candidate) => visible(candidate) === visible(token);
  const rows = token.top.some(same) ? token.top : [...token.top, token];
  useEffect(() => {
    const { offsetWidth: width, offsetHeight: height } = box.current!;
    const top = place.bottom + 6 + height > innerHeight ? Math.max(4, place.top - height - 6) : place.bottom + 6;
    box.current!.style.left = `${Math.max(8, Math.min(place.left, innerWidth - width - 8))}px`;
    box.current!.style.top = `${Math.max(8, top)}px`;
    box.current!.querySelector<HTMLElement>("button:not(:disabled)")?.focus({ preventScroll: true });
  }, [token, place]);
  useEffect(() => {
    const leave = (event: Event) => !box.current?.contains(event.target as Node) && onClose();
    document.addEventListener("pointerdown", leave);
    document.addEventListener("scroll", leave, true);
    return () => {
      document.removeEventListener("pointerdown", leave);
      document.removeEventListener("scroll", leave, true);
    };
  }, []);
  return (
    <div class="card" role="dialog" aria-label="Candidates for this token" ref={box} onKeyDown={(event) => event.key === "Escape" && onClose()}>
      <p class="card-title">{onChoose ? "Choose another token to continue from there" : "Candidates"}</p>
      {rows.map((candidate, index) => (
        <button
          type="button" key={index} class={same(candidate) ? "candidate chosen" : "candidate"}
          disabled={!onChoose || same(candidate) || isControl(candidate)} onClick={() => (onClose(), onChoose!(candidate))}
        >
          <span class="candidate-text">{visible(candidate)}</span>
          <span class="candidate-bar"><i style={{ width: `${100 * Math.exp(candidate.l)}%` }} /></span>
          <span class="candidate-share">{percent(candidate.l)}</span>
          {same(candidate) && <span class="hidden">, the model's choice</span>}
        </button>
      ))}
    </div>
  );
}

export function TokenView({ tokens, onBranch }: { tokens: Token[]; onBranch?: (index: number, candidate: Candidate) => void }) {
  const [active, setActive] = useState(-1);
  const [place, setPlace] = useState<DOMRect | null>(null);
  const root = useRef<HTMLDivElement>(null);
  const texts = textsOf(tokens);
  const element = (index: number) => root.current?.querySelector<HTMLElement>(`[data-index="${index}"]`);
  const open = (index: number) => {
    setActive(index);
    setPlace(element(index)?.getBoundingClientRect() ?? null);
  };
  const close = () => {
    setPlace(null);
    root.current?.focus({ preventScroll: true });
  };
  const move = (event: KeyboardEvent) => {
    const steps: Record<string, number> = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    if (event.key === "Enter" || event.key === " ") open(Math.max(0, active));
    else if (steps[event.key]) {
      const index = Math.min(tokens.length - 1, Math.max(0, active + steps[event.key]));
      setActive(index);
      element(index)?.scrollIntoView({ block: "nearest" });
    } else return;
    event.preventDefault();
  };
  const groups = [];
  for (let start = 0; start < tokens.length; start += GROUP)
    groups.push(
      <Group key={start} tokens={tokens.slice(start, start + GROUP)} texts={texts.slice(start, start + GROUP)} start={start} active={active} />,
    );
  const chosen = tokens[active];
  return (
    <div class="token-view">
      <div
        class="tokens" dir="auto" ref={root} tabIndex={0} role="group" onKeyDown={move}
        aria-label="The answer's tokens. Arrow keys move from token to token, Enter shows the candidates."
        onClick={(event) => {
          const span = (event.target as HTMLElement).closest<HTMLElement>("[data-index]");
          if (span) open(Number(span.dataset.index));
        }}
        onPointerOver={(event) => {
          const span = (event.target as HTMLElement).closest<HTMLElement>("[data-index]");
          if (span) span.title = percent(tokens[Number(span.dataset.index)].l);
        }}
      >
        {groups}
      </div>
      <span class="hidden" aria-live="polite">{chosen && `${visible(chosen)}, ${percent(chosen.l)}`}</span>
      {place && chosen && (
        <Card token={chosen} place={place} onClose={close} onChoose={onBranch && ((candidate) => onBranch(active, candidate))} />
      )}
    </div>
  );
}
