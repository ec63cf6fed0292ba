"""What a step draws, scores and guesses, found out together: one wait for all of it, and not one for each row.

Known ahead is what a row's token depends on: the settings of the request, and what was said until then. A guess is
drawn behind those before it, as if they were right; if one is not, nobody asks for the rows behind it (N11). Not known
ahead: what a grammar allows behind a guess, and rows that several choices draw from, or that lie beside a tree's. These
are drawn when their turn comes.
"""

from itertools import takewhile

from verbatim.fastpath.engine import answer
from verbatim.fastpath.gpu.logits import Logits
from verbatim.fastpath.gpu.sampling import Scored, Wanted, find_out
from verbatim.fastpath.speculation import speculators as speculation
from verbatim.reference.records.errors import NumericsError, RequestError


def extend_decoding(work, answers, logits):
    """What fastpath/engine/answer.pyx says; also finds out what the rest of `work` asks for, for `logits` to know."""
    if not isinstance(logits, Logits):
        return answer.extend_decoding(work, answers, logits)
    ready = list(takewhile(_simply_goes_on, work))
    has_sides = sum(chunk.num_logits for _, chunk in work) != len(logits)  # a tree's rows lie between the others'
    asked = _asked(ready if has_sides else work, answers, logits)
    logits.know(dict(zip(asked, find_out(list(asked.values())), strict=True)))
    return answer.extend_decoding(ready, answers, list(logits)[: len(ready)])


def _simply_goes_on(one) -> bool:
    sequence, chunk = one
    return bool(chunk.num_logits == 1 and sequence.output_ids and not sequence.draft_ids)


def _asked(work, answers, logits) -> dict[int, Wanted | Scored]:
    """By the number of its row, what is asked of it."""
    asked, row = {}, 0
    for sequence, chunk in work:
        is_complete = sequence.num_uncomputed == len(chunk.token_ids) - len(sequence.draft_ids)
        num_scores = chunk.num_logits - len(sequence.draft_ids) - is_complete
        first = sequence.num_scored + 1
        for i, token_id in enumerate(sequence.request.prompt_ids[first : first + num_scores]):
            asked[row + i] = Scored(logits[row + i], token_id, sequence.request.prompt_logprobs)
        if is_complete and not sequence.num_forks and sequence.request.stopping.max_tokens != 0:
            _ask_for_tokens(asked, row + num_scores, sequence, answers[sequence], logits)
        row += chunk.num_logits
    return asked


def _ask_for_tokens(asked, row: int, sequence, its_answer, logits) -> None:
    """The next token, and one behind each guess."""
    request, said = sequence.request, sequence.output_ids
    try:
        excluded = its_answer.excluded_ids()
    except (NumericsError, RequestError):
        return  # the answer says so itself when its turn comes
    is_free = its_answer.guide is None and not len(excluded)  # and nothing will be behind guesses: `min_tokens` is said
    for i in range(1 + (len(sequence.draft_ids) if is_free else 0)):
        position, before = len(sequence) + i, [*said, *sequence.draft_ids[:i]] if i else said
        asked[row + i] = Wanted(
            logits[row + i], request.sampling, request.prompt_ids, before, position, sequence.choice, excluded,
            request.sampling.logprobs,
        )  # fmt: skip


class DraftSpeculator(speculation.DraftSpeculator):
    """What fastpath/speculation/speculators.pyx says, with all guesses of a pass of the draft model drawn together."""

    def guess_all(self, drafts, rows) -> list[bool]:
        """One token more for each sequence with its guesses so far; which could go on."""
        wanted = [
            Wanted(
                row, one.request.sampling, one.request.prompt_ids, [*one.output_ids, *draft_ids],
                len(one) + len(draft_ids), one.choice, (), None,
            )
            for (one, draft_ids), row in zip(drafts, rows, strict=True)
        ]  # fmt: skip
        found = find_out(wanted)
        for (_, draft_ids), known in zip(drafts, found, strict=True):
            draft_ids += [] if known.error else [known.sampled.token_id]
        return [not known.error for known in found]
