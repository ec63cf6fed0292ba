"""Side lines of draft tokens for one sequence, each verified as a chunk of its own on pages that fork off.

A side line begins with the last sampled token, like the main line, so no chunk needs what another chunk of the same
pass computes: nothing about attention or its numbers changes.
"""

from verbatim.reference.records.sequence import Chunk, Sequence


def side_chunks(work: list[tuple[Sequence, Chunk]], cache, prefill_chunk_size: int) -> dict[Sequence, list[Chunk]]:
    """Return the side lines of each sequence that fit into the rest of the budget and on free pages."""
    budget = prefill_chunk_size - sum(len(chunk.token_ids) for _, chunk in work)
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
            side = chunk._replace(token_ids=token_ids, pages=tuple(pages), num_logits=len(draft_ids))
            sides.setdefault(sequence, []).append(side)
    return sides
