"""Why this token: for each one the candidates after every sampling rule, the text held back, the pages reused, and
the draft tokens in its place.

It asks the engine's own `adjust` and `weigh` for their state after each rule, so it explains the engine that runs.
"""

from itertools import pairwise

from rich.console import Console
from rich.table import Table

from verbatim.reference.engine.loop import Engine
from verbatim.reference.records.observer import Observer, Token
from verbatim.reference.sampling.names import ADJUSTING_RULES, RULES

SHOWN_CANDIDATES = 6


class Explainer(Observer):
    """Prints one table for every token that `engine` samples; an observer to subscribe to it."""

    def __init__(self, engine: Engine, console: Console):
        self.engine, self.console = engine, console

    def on_token(self, token: Token) -> None:
        """Show how a token was chosen, and what became of it."""
        stages = self._stages(token)
        acting = [stages[0], *(after for before, after in pairwise(stages) if (before[1] != after[1]).any())]
        self.console.print(self._title(token), markup=False, style="italic", soft_wrap=True)
        table = Table(pad_edge=False)
        table.add_column("candidate", no_wrap=True)
        for rule, _ in acting:
            table.add_column(rule, justify="right", no_wrap=True)
        for token_id in _shown(stages, token.sampled.token_id):
            shares = [_share(weights, token_id) for _, weights in acting]
            table.add_row(self._name(token_id), *shares, style="bold" if token_id == token.sampled.token_id else "")
        self.console.print(table)
        idle = [rule for rule, _ in stages if rule not in dict(acting)]
        self._say("rules without effect", ", ".join(idle) or "none")
        if len(token.sequence.output_ids) == 1:
            self._say("prompt", self._prompt(token))
        if token.drafts:
            self._say("draft tokens", self._drafts(token))
        self._say("text shown", f"{token.output.text!r}, held back: {token.held.decode(errors='replace')!r}")
        self._say("pages", self._pages(token))
        if token.output.finish_reason:
            self._say("ended by", f"{token.output.finish_reason} {token.output.stop_reason or ''}")
        self.console.print()

    def _stages(self, token: Token):
        """Pairs of a rule's name and the integer weights after it."""
        request, parts = token.sequence.request, self.engine.parts
        history = {"prompt_ids": request.prompt_ids, "output_ids": token.sequence.output_ids[:-1]}
        stages = []
        for rule in RULES:
            last = rule if rule in ADJUSTING_RULES else ADJUSTING_RULES[-1]
            adjusted = parts.adjust(token.logits, request.sampling, **history, last_rule=last)
            stages.append((rule, parts.weigh(adjusted, request.sampling, token.excluded, last_rule=rule)))
        return stages

    def _title(self, token: Token) -> str:
        sampling, position = token.sequence.request.sampling, len(token.sequence) - 1
        method = "the largest logit" if sampling.temperature == 0 else f"drawn with seed {sampling.seed}"
        return f"position {position}, choice {token.sequence.choice}: {self._name(token.sampled.token_id)}, {method}"

    def _name(self, token_id: int) -> str:
        return f"{self.engine.tokenizer.token_bytes(token_id).decode(errors='replace')!r} ({token_id})"

    def _pages(self, token: Token) -> str:
        """A sequence's pages: from the prefix cache, shared with another sequence, or its own."""
        sequence, is_shared = token.sequence, self.engine.cache.is_shared
        num_reused, num_copied = divmod(sequence.num_cached, self.engine.parts.page_size)
        words = []
        for index, page in enumerate(sequence.pages):
            origins = ["reused"] * (index < num_reused) + ["shared"] * is_shared(page)
            if index == num_reused and num_copied:
                origins.append(f"begun with {num_copied} tokens of another")
            words.append(f"{page} ({', '.join(origins)})" if origins else str(page))
        return " ".join(words)

    def _prompt(self, token: Token) -> str:
        """How much of the prompt the prefix cache knew, and in which pages."""
        sequence = token.sequence
        num_prompt, num_cached = len(sequence.request.prompt_ids), sequence.num_cached
        if not num_cached:
            return f"{num_prompt} tokens, none of them in the prefix cache"
        num_reused, num_copied = divmod(num_cached, self.engine.parts.page_size)
        where = [f"pages {' '.join(map(str, sequence.pages[:num_reused]))}"] if num_reused else []
        where += [f"{num_copied} copied into page {sequence.pages[num_reused]}"] if num_copied else []
        cached = f"{num_cached} of them from the prefix cache ({', '.join(where)})"
        return f"{num_prompt} tokens, {cached}, {num_prompt - num_cached} computed"

    def _drafts(self, token: Token) -> str:
        """The draft tokens from here on, and what became of the first of them."""
        first, *others = map(self._name, token.drafts)
        after = f"; behind it {' '.join(others)}" if others else ""
        if token.drafts[0] == token.sampled.token_id:
            return f"{first}, accepted{after}"
        return f"{first}, rejected{after}{', dropped with it' if others else ''}"

    def _say(self, name: str, text: str) -> None:
        self.console.print(f"  {name}: {text}", markup=False, soft_wrap=True)


def _shown(stages, chosen: int) -> list[int]:
    """The chosen token and the heaviest of the model and of the last rule, by the model's weight."""
    shown = {chosen}
    for weights in (stages[0][1], stages[-1][1]):
        heaviest = sorted(range(len(weights)), key=lambda i: -int(weights[i]))[:SHOWN_CANDIDATES]
        shown.update(i for i in heaviest if weights[i])
    return sorted(shown, key=lambda i: -int(stages[0][1][i]))


def _share(weights, token_id: int) -> str:
    """A weight as a share of all, or a dot for a token that a rule has dropped."""
    return f"{int(weights[token_id]) / int(weights.sum()):.4f}" if weights[token_id] else "·"
