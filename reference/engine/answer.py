"""Mirrored. One choice's way from logits to text: what is drawn, what of it may be shown, and when it ends."""

from collections import deque
from collections.abc import Sequence as Rows
from typing import Any

import numpy as np

from verbatim.reference.model.pooling import Pool
from verbatim.reference.records.drawn import Drawn
from verbatim.reference.records.errors import NumericsError, RequestError
from verbatim.reference.records.request import Candidate, FinishReason, Output, TokenLogprob
from verbatim.reference.records.sequence import Sequence
from verbatim.reference.text.tokenizer import Tokenizer


class Answer:
    """The text after a sequence's prompt, put together from the engine's own `sample`, stopper and detokenizer.

    `sampled` is the latest token, None if none could be drawn; `excluded` are the ids that could not be.
    """

    def __init__(self, sequence: Sequence, tokenizer: Tokenizer, sample, stopper, detokenizer, guide=None):
        self.sequence, self.tokenizer, self.sample = sequence, tokenizer, sample
        self.stopper, self.detokenizer, self.guide = stopper, detokenizer, guide
        self.sampled, self.excluded = None, ()
        self.pool = Pool(sequence.request.pooling) if sequence.request.pooling else None
        self._visible = _visible_bytes(tokenizer, sequence.request.visible_ids)
        # Some vocabularies put a space before a text's first word; an answer to an empty prompt is such a text.
        prompt = sequence.request.prompt_ids
        self._drops_space = tokenizer.strips_first_space and not any(map(tokenizer.token_bytes, prompt))
        self._pending: deque[tuple[int, TokenLogprob]] = deque()  # with the place of the token's first byte
        self._num_bytes = 0
        self._num_released = 0

    def draw(self, logits) -> Drawn:
        """Sample the next token from its logits (vocab,), without taking it in."""
        sequence, request, excluded = self.sequence, self.sequence.request, ()
        try:
            excluded = self.excluded_ids()
            sampled = self.sample(
                logits, request.sampling, prompt_ids=request.prompt_ids, output_ids=sequence.output_ids,
                position=len(sequence), choice=sequence.choice, excluded=excluded,
            )  # fmt: skip
        except (NumericsError, RequestError) as error:  # no other choice is affected
            return Drawn(None, error, logits, excluded)
        return Drawn(sampled, None, logits, excluded)

    def extend(self, row) -> Output:
        """Append the next token: as it was drawn, or from its logits (vocab,). An error ends this answer alone."""
        drawn = row if isinstance(row, Drawn) else self.draw(row)
        self.sampled, self.excluded = None, drawn.excluded
        try:
            sampled = drawn.take()
            self.sequence.output_ids.append(sampled.token_id)
            output = self.push(sampled)
        except (NumericsError, RequestError) as error:
            return self.end(FinishReason.ERROR, str(error))
        self.sampled = sampled
        return output

    def excluded_ids(self):
        """Ids that may not be drawn next. Where a grammar can only end, it may do so before `min_tokens`."""
        if self.guide is None:
            return self.stopper.excluded_ids()
        forbidden = self.guide.excluded_ids()
        both = np.union1d(forbidden, np.asarray(self.stopper.excluded_ids(), np.int64))
        return both if len(both) < self.guide.vocab_size else forbidden

    def push(self, sampled) -> Output:
        """Append a sampled token: new text, the log-probabilities that go with it, the end if it is one."""
        token = self._bytes(sampled.token_id)
        is_complete = (
            self.guide is not None
            and sampled.token_id not in self.stopper.stop_ids
            and self.guide.push(sampled.token_id)
        )
        decision = self.stopper.push(sampled.token_id, token, is_complete=is_complete)
        is_text = decision.stop_reason != sampled.token_id
        if sampled.logprob is not None and is_text:
            self._pending.append((self._num_bytes, self._logprob(sampled, token)))
        self._num_bytes += len(token) if is_text else 0
        if token:
            self._drops_space = False
        text = self.detokenizer.push(decision.released)
        if decision.finish_reason is not None:
            text += self.detokenizer.finish()
        return self._output(
            text, (sampled.token_id,), decision.finish_reason, decision.stop_reason, None, self._release(decision),
            token_logprobs=() if sampled.logprob is None else (sampled.logprob,),
        )  # fmt: skip

    def score(self, scored) -> Output:
        """Log-probabilities of the next tokens of the prompt."""
        entries = (self._logprob(token, self._bytes(token.token_id)) for token in scored)
        return self._output(prompt_logprobs=tuple(entries))

    def end(self, reason: FinishReason, message: str | None = None) -> Output:
        """The end without another token: none was asked for, an error, a deadline."""
        return self._output(finish_reason=reason, error=message)

    def _output(
        self, text="", token_ids=(), finish_reason=None, stop_reason=None, error=None, logprobs=(), prompt_logprobs=(),
        token_logprobs=(),
    ) -> Output:  # fmt: skip
        sequence, request = self.sequence, self.sequence.request
        return Output(  # by place: one is made for every token, and names cost as much again
            request.request_id, sequence.choice, text, token_ids, len(request.prompt_ids), sequence.num_cached,
            len(sequence.output_ids), sequence.num_drafted, sequence.num_accepted, finish_reason, stop_reason, error,
            logprobs, prompt_logprobs, (), token_logprobs,
        )  # fmt: skip

    def _release(self, decision) -> tuple[TokenLogprob, ...]:
        """Log-probabilities of tokens of which something is shown now; at a cut the rest is dropped with its text."""
        self._num_released += len(decision.released)
        is_whole = decision.finish_reason is not None and self._num_released == self._num_bytes
        released = []
        while self._pending and (self._pending[0][0] < self._num_released or is_whole):
            released.append(self._pending.popleft()[1])
        return tuple(released)

    def _logprob(self, sampled, token: bytes) -> TokenLogprob:
        chosen = Candidate(token_id=sampled.token_id, token=token, logprob=sampled.logprob)
        top = (Candidate(token_id=i, token=self._bytes(i), logprob=logprob) for i, logprob in sampled.top)
        return TokenLogprob(chosen=chosen, top=tuple(top))

    def _bytes(self, token_id: int) -> bytes:
        token = self._visible.get(token_id) or self.tokenizer.token_bytes(token_id)
        return token[1:] if self._drops_space and token.startswith(b" ") else token


def sample_batch(rows, work, answers) -> Rows[Any]:
    """Draw the tokens of a step: for each of `rows` what was drawn (Drawn), or the row itself.

    Sampled are the first sequences of `work` that decode one token each, up to one with a prompt or draft tokens; the
    rows behind them are sampled in their turn, as they depend on what is accepted. An engine may sample more at once.
    """
    drawn = list(rows)
    for index, (sequence, chunk) in enumerate(work):
        if not _decodes_one_token(sequence, chunk):
            break
        drawn[index] = answers[sequence].draw(rows[index])
    return drawn


def extend_decoding(work, answers, drawn) -> tuple[list[Output], list]:
    """Append one token to each of the first sequences that decode: their outputs, and the sequences that ended.

    `drawn` is what `sample_batch` gave for this work.
    """
    outputs, ended = [], []
    for (sequence, chunk), row in zip(work, drawn, strict=False):
        if not _decodes_one_token(sequence, chunk):
            break
        sequence.num_computed += len(chunk.token_ids)
        outputs.append(answers[sequence].extend(row))
        if outputs[-1].finish_reason is not None:
            ended.append(sequence)
    return outputs, ended


def _decodes_one_token(sequence, chunk) -> bool:
    return chunk.num_logits == 1 and bool(sequence.output_ids) and not sequence.draft_ids


def _visible_bytes(tokenizer: Tokenizer, visible_ids: tuple[int, ...]) -> dict[int, bytes]:
    """The names of control tokens that a request wants to see."""
    if not visible_ids:
        return {}
    return {i: tokenizer.control_names[i] for i in visible_ids if i in tokenizer.control_names}
