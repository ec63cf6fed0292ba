"""Mirrored. One choice's way from logits to text: what is drawn, what of it may be shown, and when it ends."""

from collections import deque

import numpy as np

from verbatim.reference.model.pooling import Pool
from verbatim.reference.records.errors import NumericsError, RequestError
from verbatim.reference.records.request import Candidate, FinishReason, Output, TokenLogprob
from verbatim.reference.records.sequence import Sequence
from verbatim.reference.text.tokenizer import Tokenizer


class Answer:
    """What is said after a sequence's prompt, put together from the engine's own `sample`, stopper and detokenizer.

    `sampled` is the latest token as it was drawn, None if none could be; `excluded` are the ids that it could not be.
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

    def extend(self, logits) -> Output:
        """Draw the next token from its logits (vocab,) and take it in; if the answer cannot go on, an error ends it."""
        sequence, request = self.sequence, self.sequence.request
        self.sampled = None
        try:
            self.excluded = self.excluded_ids()
            sampled = self.sample(
                logits, request.sampling, prompt_ids=request.prompt_ids, output_ids=sequence.output_ids,
                position=len(sequence), choice=sequence.choice, excluded=self.excluded,
            )  # fmt: skip
            sequence.output_ids.append(sampled.token_id)
            output = self.push(sampled)
        except (NumericsError, RequestError) as error:  # no other choice is touched
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
        """Take in a sampled token: new text, the log-probabilities that go with it, the end if it is one."""
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
            text, (sampled.token_id,), decision.finish_reason, decision.stop_reason, None, self._release(decision)
        )

    def score(self, scored) -> Output:
        """Log-probabilities of the next tokens of the prompt."""
        entries = (self._logprob(one, self._bytes(one.token_id)) for one in scored)
        return self._output(prompt_logprobs=tuple(entries))

    def end(self, reason: FinishReason, message: str | None = None) -> Output:
        """The end without another token: nothing was to be said, an error, a deadline."""
        return self._output(finish_reason=reason, error=message)

    def _output(
        self, text="", token_ids=(), finish_reason=None, stop_reason=None, error=None, logprobs=(), prompt_logprobs=()
    ) -> Output:
        one, request = self.sequence, self.sequence.request
        return Output(  # by place: one is made for every token, and names cost as much again
            request.request_id, one.choice, text, token_ids, len(request.prompt_ids), one.num_cached,
            len(one.output_ids), one.num_drafted, one.num_accepted, finish_reason, stop_reason, error, logprobs,
            prompt_logprobs,
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


def extend_decoding(work, answers, logits) -> tuple[list[Output], list]:
    """One token for each of the first sequences that simply go on, up to one whose prompt or guesses are at hand.

    Each has one row of `logits`, in the same order; the outputs come so, too, and then the sequences that they end.
    """
    outputs, ended = [], []
    for (sequence, chunk), row in zip(work, logits, strict=False):
        if chunk.num_logits != 1 or not sequence.output_ids or sequence.draft_ids:
            break
        sequence.num_computed += len(chunk.token_ids)
        outputs.append(answers[sequence].extend(row))
        if outputs[-1].finish_reason is not None:
            ended.append(sequence)
    return outputs, ended


def _visible_bytes(tokenizer: Tokenizer, visible_ids: tuple[int, ...]) -> dict[int, bytes]:
    """The names of control tokens that a request wants to see."""
    if not visible_ids:
        return {}
    return {i: name.encode() for name, i in tokenizer.control_ids.items() if i in visible_ids}
