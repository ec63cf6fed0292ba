"""From logits to text, a token of one sequence or of each decoding sequence at a time: the same words either way."""

import numpy as np
import pytest

from small_models import Letters
from verbatim.reference.records.request import FinishReason, Request, SamplingParams, StoppingParams
from verbatim.reference.records.sequence import Chunk, Sequence

VOCAB, EOS, PROMPT = 40, 3, (5, 6)
SAMPLINGS = (
    {"temperature": 0},
    {"temperature": 1},
    {"temperature": 0.7, "top_p": 0.8, "min_p": 0.01},
    {"temperature": 1, "top_k": 3, "logprobs": 2},
    {"temperature": 0, "repetition_penalty": 1.3, "logit_bias": {9: 2.5}},
    {"temperature": 2, "presence_penalty": 0.5},
)


def new_answers(backend, count, **stopping):
    """Sequences that have sampled one token, with their answers; each of SAMPLINGS in turn."""
    parts, answers = backend.PARTS, {}
    stopping = StoppingParams(**{"max_tokens": 8, "strings": ("abc", "x")} | stopping)
    for number in range(count):
        sampling = SamplingParams(seed=number, **SAMPLINGS[number % len(SAMPLINGS)])
        request = Request(request_id=str(number), prompt_ids=PROMPT, sampling=sampling, stopping=stopping)
        sequence = Sequence(request=request, num_computed=len(PROMPT))
        stopper = parts.Stopper(stopping, eos_ids=(EOS,), num_prompt=len(PROMPT), context_size=100)
        answers[sequence] = parts.Answer(sequence, Letters(), parts.sample, stopper, parts.Detokenizer())
        answers[sequence].extend(logits_of(number, 1)[0])
    return answers


def logits_of(seed, rows):
    return np.random.default_rng(seed).normal(0, 3, (rows, VOCAB)).astype(np.float32)


def work_of(answers):
    """A decode step of each sequence's last sampled token."""
    return [
        (sequence, Chunk(token_ids=tuple(sequence.output_ids[-1:]), start=sequence.num_computed, pages=()))
        for sequence in answers
    ]


def extend_decoding(parts, work, answers, rows):
    """Draw the tokens of a step, then take them in."""
    return parts.extend_decoding(work, answers, parts.sample_batch(rows, work, answers))


@pytest.mark.parametrize("min_tokens", [0, 4])
def test_together_is_as_one_by_one(backend, min_tokens):
    together, alone = (new_answers(backend, 12, min_tokens=min_tokens) for _ in range(2))
    for step in range(7):
        logits = logits_of(100 + step, len(together))
        outputs, over = extend_decoding(backend.PARTS, work_of(together), together, logits)
        assert outputs == [answer.extend(row) for answer, row in zip(alone.values(), logits, strict=True)]
        ended = [output.finish_reason is not None for output in outputs]
        assert over == [sequence for sequence, is_over in zip(together, ended, strict=True) if is_over]
        assert [sequence.num_computed for sequence in together] == [len(PROMPT) + 1 + step] * len(together)
        together, alone = (
            {
                sequence: answer
                for (sequence, answer), is_over in zip(answers.items(), ended, strict=True)
                if not is_over
            }
            for answers in (together, alone)
        )
    assert [sequence.output_ids for sequence in together] == [sequence.output_ids for sequence in alone]


def test_rows_may_come_as_a_list_or_in_another_order_in_memory(backend):
    logits, found = logits_of(1, 6), []
    for rows in (logits, list(logits), np.asfortranarray(logits)):
        answers = new_answers(backend, 6)
        found.append(extend_decoding(backend.PARTS, work_of(answers), answers, rows)[0])
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 6


@pytest.mark.parametrize("number", [1, 2, 5, 20])
def test_any_number_of_threads_draws_the_same(backend, number):
    threads = pytest.importorskip("verbatim.fastpath.machine.threads", reason="the fast path is not built")
    chosen, logits, found = threads.count(), logits_of(2, 40), []
    try:
        for count in (1, number):
            threads.use(count)
            answers = new_answers(backend, 40)
            found.append(extend_decoding(backend.PARTS, work_of(answers), answers, logits)[0])
    finally:
        threads.use(chosen)
    assert found[0] == found[1]
    alone = new_answers(backend, 40)
    assert found[0] == [answer.extend(row) for answer, row in zip(alone.values(), logits, strict=True)]


@pytest.mark.parametrize("other", ["prompt", "drafts", "scores"])
def test_it_stops_where_a_sequence_does_not_just_decode(backend, other):
    answers = new_answers(backend, 4)
    work, third = work_of(answers), list(answers)[2]
    if other == "prompt":
        third.output_ids.clear()
    elif other == "drafts":
        third.draft_ids = [1]
    else:
        work[2] = third, work[2][1]._replace(num_logits=2)
    assert len(extend_decoding(backend.PARTS, work, answers, logits_of(1, 5))[0]) == 2
    assert [sequence.num_computed for sequence in answers] == [3, 3, 2, 2]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, VOCAB - 1])
def test_only_the_answer_whose_logits_are_not_finite_ends(backend, bad, place):
    answers, logits = new_answers(backend, 3), logits_of(1, 3)
    logits[1, place] = bad
    outputs, ended = extend_decoding(backend.PARTS, work_of(answers), answers, logits)
    assert ended == [list(answers)[1]]
    assert [output.finish_reason for output in outputs] == [None, FinishReason.ERROR, None]
    assert outputs[1].error == "a logit for position 3 is not a finite number"
    assert (outputs[1].token_ids, outputs[1].num_completion_tokens) == ((), 1)


def test_what_was_drawn_can_be_seen(backend):
    (sequence, answer), *_ = new_answers(backend, 1, min_tokens=5).items()
    assert (answer.sampled.token_id, answer.excluded) == (sequence.output_ids[0], (EOS,))
    answer.extend(np.full(VOCAB, np.nan, np.float32))
    assert answer.sampled is None
