"""Why this token: for each one the candidates after every sampling rule, the text held back, the pages reused.

It asks the engine's own `adjust` and `weigh` for their state after each rule, so it explains the engine that runs.
"""

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from reference.engine import Parts
from reference.sampling_rules import ADJUSTING_RULES, RULES


SHOWN_CANDIDATES = 6


class Explainer:
    """An engine's observer: prints one table a token. `cache` is set once the engine exists."""

    def __init__(self, parts: Parts, console: Console):
        self.parts, self.console = parts, console
        self.engine = None

    def __call__(self, sequence, logits, sampled, answer) -> None:
        """Show the step that has just been decided; called before the token is appended."""
        table = Table(title=self._title(sequence, sampled), title_justify="left", pad_edge=False)
        table.add_column("token")
        stages = self._stages(sequence, logits, answer)
        for rule, _ in stages:
            table.add_column(rule, justify="right")
        for token_id in self._shown(stages, sampled.token_id):
            style = "bold green" if token_id == sampled.token_id else ""
            cells = [_share(weights, token_id) for _, weights in stages]
            table.add_row(f"{self._name(token_id)} {token_id}", *cells, style=style)
        held = answer.stopper.held
        self.console.print(Group(table, Text(f"pages: {self._pages(sequence)}"), Text(f"held back before it: {held!r}")))

    def _stages(self, sequence, logits, answer):
        """Pairs of a rule's name and the integer weights after it."""
        request, excluded = sequence.request, answer.excluded_ids()
        seen = {"prompt_ids": request.prompt_ids, "output_ids": sequence.output_ids}
        stages = []
        for rule in RULES:
            last = rule if rule in ADJUSTING_RULES else ADJUSTING_RULES[-1]
            adjusted = self.parts.adjust(logits, request.sampling, **seen, last_rule=last)
            stages.append((rule, self.parts.weigh(adjusted, request.sampling, excluded, last_rule=rule)))
        return stages

    def _shown(self, stages, chosen: int) -> list[int]:
        """The heaviest candidates of the model and of the last rule, and the chosen one."""
        shown = {chosen: None}
        for weights in (stages[-1][1], stages[0][1]):
            shown |= dict.fromkeys(sorted(range(len(weights)), key=lambda i: -int(weights[i]))[:SHOWN_CANDIDATES])
        return sorted(shown, key=lambda i: -int(stages[0][1][i]))

    def _title(self, sequence, sampled) -> str:
        how = "greedy" if sequence.request.sampling.temperature == 0 else f"seed {sequence.request.sampling.seed}"
        return f"position {len(sequence)}, choice {sequence.choice}, {how}: {self._name(sampled.token_id)}"

    def _name(self, token_id: int) -> str:
        return repr(self.engine.tokenizer.token_bytes(token_id).decode(errors="replace"))

    def _pages(self, sequence) -> str:
        cache = self.engine.cache
        return " ".join(f"{page}{' (shared)' if cache.is_shared(page) else ''}" for page in sequence.pages)


def _share(weights, token_id: int) -> str:
    """A weight as a share of all, or a dot for a token that a rule has dropped."""
    return f"{int(weights[token_id]) / int(weights.sum()):.4f}" if weights[token_id] else "·"
