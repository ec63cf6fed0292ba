"""A step's draws and scores on a device, all together: one wait for all of them, and not one for each row.

Known before any token is appended is what a row's token depends on: the settings of the request, and its tokens until
then. Behind a draft token the next is drawn as if the draft were right; if it is not, nobody reads the rows behind it
(N11). Not known: what a grammar allows behind a draft token, and rows that several choices draw from, or that lie
beside a tree's. These are drawn afterwards.
"""

from itertools import takewhile

from verbatim.fastpath.engine import answer
from verbatim.fastpath.gpu.logits import Logits
from verbatim.fastpath.gpu.sampling import Scored, Wanted, draw_rows
from verbatim.fastpath.speculation import speculators as speculation
from verbatim.reference.records.errors import NumericsError, RequestError


def sample_batch(rows, work, answers):
    """For each row of logits what was drawn or scored (Drawn), or the row itself where that is not known yet."""
    if not isinstance(rows, Logits):
        return answer.sample_batch(rows, work, answers)
    decoding = list(takewhile(_decodes_one_token, work))
    has_sides = sum(chunk.num_logits for _, chunk in work) != len(rows)  # a tree's rows lie between the others'
    asked = _asked(decoding if has_sides else work, answers, rows)
    drawn = dict(zip(asked, draw_rows(list(asked.values())), strict=True))
    return [drawn.get(index) or row for index, row in enumerate(rows)]


def _decodes_one_token(pair) -> bool:
    sequence, chunk = pair
    return bool(chunk.num_logits == 1 and sequence.output_ids and not sequence.draft_ids)


def _asked(work, answers, rows) -> dict[int, Wanted | Scored]:
    """By the number of its row, what is asked of it."""
    asked, first_row = {}, 0
    for sequence, chunk in work:
        is_complete = sequence.num_uncomputed == len(chunk.token_ids) - len(sequence.draft_ids)
        num_scores = chunk.num_logits - len(sequence.draft_ids) - is_complete
        first = sequence.num_scored + 1
        for i, token_id in enumerate(sequence.request.prompt_ids[first : first + num_scores]):
            asked[first_row + i] = Scored(rows[first_row + i], token_id, sequence.request.prompt_logprobs)
        if is_complete and not sequence.num_forks and sequence.request.stopping.max_tokens != 0:
            asked |= _asked_tokens(first_row + num_scores, sequence, answers[sequence], rows)
        first_row += chunk.num_logits
    return asked


def _asked_tokens(first_row: int, sequence, its_answer, rows) -> dict[int, Wanted]:
    """The next token, and one behind each draft token."""
    request, output_ids, drafts = sequence.request, sequence.output_ids, sequence.draft_ids
    try:
        excluded = its_answer.excluded_ids()
    except (NumericsError, RequestError):
        return {}  # the answer reports it when its turn comes
    # Behind draft tokens nothing is excluded either: `min_tokens` are reached.
    is_free = its_answer.guide is None and not len(excluded)
    return {
        first_row + i: Wanted(
            rows[first_row + i], request.sampling, request.prompt_ids, [*output_ids, *drafts[:i]] if i else output_ids,
            len(sequence) + i, sequence.choice, excluded, request.sampling.logprobs,
        )
        for i in range(1 + (len(drafts) if is_free else 0))
    }  # fmt: skip


class DraftSpeculator(speculation.DraftSpeculator):
    """As in reference/speculation/speculators.py, with all draft tokens of a pass of the draft model drawn together."""

    def extend_drafts(self, drafts, rows) -> list[bool]:
        """One token more for each sequence with its draft tokens so far; which could go on."""
        wanted = [
            Wanted(
                row, sequence.request.sampling, sequence.request.prompt_ids, [*sequence.output_ids, *draft_ids],
                len(sequence) + len(draft_ids), sequence.choice, (), None,
            )
            for (sequence, draft_ids), row in zip(drafts, rows, strict=True)
        ]  # fmt: skip
        drawn = draw_rows(wanted)
        for (_, draft_ids), draw in zip(drafts, drawn, strict=True):
            draft_ids += [] if draw.error else [draw.sampled.token_id]
        return [not draw.error for draw in drawn]
