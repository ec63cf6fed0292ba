"""Further lines of guesses for one sequence, each verified as a chunk of its own on pages that fork off.

A side line begins with the last token that was said, like the line beside it, so no chunk needs what another one of the
same pass computes: nothing about attention or its numbers changes.
"""

from verbatim.reference.records.sequence import Chunk, Sequence


def side_chunks(work: list[tuple[Sequence, Chunk]], cache, token_budget: int) -> dict[Sequence, list[Chunk]]:
    """The side lines of each sequence that still fit: in what is left of the budget, and on free pages."""
    budget = token_budget - sum(len(chunk.token_ids) for _, chunk in work)
    sides: dict[Sequence, list[Chunk]] = {}
    for sequence, chunk in work:
        lines, sequence.side_draft_ids = sequence.side_draft_ids, []
        for draft_ids in lines if sequence.draft_ids else ():
            token_ids = (chunk.token_ids[0], *draft_ids)
            fits = len(token_ids) <= budget
            pages = cache.fork(sequence.pages, chunk.start, chunk.start + len(token_ids)) if fits else None
            if pages is None:
                break
            budget -= len(token_ids)
            side = Chunk(token_ids=token_ids, start=chunk.start, pages=tuple(pages), num_logits=len(draft_ids))
            sides.setdefault(sequence, []).append(side)
    return sides
