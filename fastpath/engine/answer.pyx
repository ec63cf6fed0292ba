"""Mirrored. One choice's way from logits to text: what is drawn, what of it may be shown, and when it ends.

The same steps as in reference/engine/answer.py. One is taken for every token, so records are made by place, and where nothing
but the largest logit or a draw is asked for, all threads draw from the rows of a step (draws.pyx).
"""

import numpy as np

from verbatim.fastpath.text.detokenizer cimport Detokenizer
from verbatim.fastpath.sampling.draws cimport draw_all, row_draw
from verbatim.fastpath.sampling.rules cimport adjusts, draw_params, draw_params_of
from verbatim.fastpath.text.stopping cimport Stopper

from verbatim.fastpath.sampling.rules import sample as sample_here
from verbatim.reference.records.errors import NumericsError, RequestError
from verbatim.reference.model.pooling import Pool
from verbatim.reference.records.request import Candidate, FinishReason, Output, TokenLogprob


cdef class Answer:
    """What is said after a sequence's prompt, put together from the engine's own `sample`, stopper and detokenizer.

    `sampled` is the latest token as it was drawn, None if none could be; `excluded` are the ids that it could not be.
    """

    cdef readonly object sequence, tokenizer, sample, guide, pool, sampled, excluded
    cdef readonly Stopper stopper
    cdef readonly Detokenizer detokenizer
    cdef object _request_id, _sampling, _token_bytes
    cdef tuple _prompt_ids
    cdef dict _visible
    cdef list _pending  # log-probabilities with the place of their token's first byte
    cdef long _num_prompt, _choice, _num_bytes, _num_released
    cdef bint _drops_space, _is_plain
    cdef draw_params _draw_params

    def __init__(self, sequence, tokenizer, sample, Stopper stopper, Detokenizer detokenizer, guide=None):
        request = sequence.request
        self.sequence, self.tokenizer, self.sample = sequence, tokenizer, sample
        self.stopper, self.detokenizer, self.guide = stopper, detokenizer, guide
        self.sampled, self.excluded = None, ()
        self.pool = Pool(request.pooling) if request.pooling else None
        self._request_id, self._sampling, self._prompt_ids = request.request_id, request.sampling, request.prompt_ids
        self._num_prompt, self._choice = len(request.prompt_ids), sequence.choice
        self._token_bytes, self._visible = tokenizer.token_bytes, _visible_bytes(tokenizer, request.visible_ids)
        self._drops_space = tokenizer.strips_first_space and not any(map(tokenizer.token_bytes, request.prompt_ids))
        self._pending, self._num_bytes, self._num_released = [], 0, 0
        self._draw_params, is_raw = draw_params_of(request.sampling), not adjusts(request.sampling)
        self._is_plain = is_raw and guide is None and request.sampling.logprobs is None and sample is sample_here

    def extend(self, logits):
        """Draw the next token from its logits (vocab,) and take it in; if the answer cannot go on, an error ends it."""
        cdef list said = self.sequence.output_ids
        self.sampled = None
        try:
            self.excluded = self.excluded_ids()
            sampled = self.sample(
                logits, self._sampling, prompt_ids=self._prompt_ids, output_ids=said,
                position=self._num_prompt + len(said), choice=self._choice, excluded=self.excluded,
            )
            said.append(sampled.token_id)
            output = self.push(sampled)
        except (NumericsError, RequestError) as error:  # no other choice is touched
            return self.end(FinishReason.ERROR, str(error))
        self.sampled = sampled
        return output

    cdef bint _is_plain_now(self) noexcept:
        """Whether nothing but the raw logits says what is drawn next."""
        return self._is_plain and self.stopper.num_tokens >= self.stopper.min_tokens

    cdef _extend_plainly(self, token_id):
        """Take in what was drawn where nothing changes the logits and no log-probability is asked for."""
        (<list>self.sequence.output_ids).append(token_id)
        return self._take_in(token_id, None)

    cpdef excluded_ids(self):
        """Ids that may not be drawn next. Where a grammar can only end, it may do so before `min_tokens`."""
        if self.guide is None:
            return self.stopper.excluded_ids()
        forbidden = self.guide.excluded_ids()
        both = np.union1d(forbidden, np.asarray(self.stopper.excluded_ids(), np.int64))
        return both if len(both) < self.guide.vocab_size else forbidden

    cpdef push(self, sampled):
        """Take in a sampled token: new text, the log-probabilities that go with it, the end if it is one."""
        return self._take_in(sampled.token_id, None if sampled.logprob is None else sampled)

    cdef _take_in(self, token_id, scored):
        """`scored` is the token with its log-probability, if that is asked for."""
        cdef bytes token = self._bytes(token_id)
        cdef bint is_complete = (
            self.guide is not None and token_id not in self.stopper.stop_ids and self.guide.push(token_id)
        )
        released, finish_reason, stop_reason = self.stopper.push(token_id, token, is_complete)
        if stop_reason is None or stop_reason != token_id:
            if scored is not None:
                self._pending.append((self._num_bytes, self._logprob(scored, token)))
            self._num_bytes += len(token)
        if token:
            self._drops_space = False
        cdef str text = self.detokenizer.push(released)
        if finish_reason is not None:
            text += self.detokenizer.finish()
        shown = self._release(len(<bytes>released), finish_reason is not None)
        return self._output(text, (token_id,), finish_reason, stop_reason, None, shown, ())

    def score(self, scored):
        """Log-probabilities of the next tokens of the prompt."""
        entries = tuple([self._logprob(one, self._bytes(one.token_id)) for one in scored])
        return self._output("", (), None, None, None, (), entries)

    def end(self, reason, message=None):
        """The end without another token: nothing was to be said, an error, a deadline."""
        return self._output("", (), reason, None, message, (), ())

    cdef _output(self, str text, tuple token_ids, finish_reason, stop_reason, error, tuple logprobs, tuple scores):
        one = self.sequence
        return tuple.__new__(Output, (
            self._request_id, self._choice, text, token_ids, self._num_prompt, one.num_cached,
            len(<list>one.output_ids), one.num_drafted, one.num_accepted, finish_reason, stop_reason, error, logprobs,
            scores, (),
        ))

    cdef tuple _release(self, long count, bint is_end):
        """Log-probabilities of tokens of which something is shown now; at a cut the rest is dropped with its text."""
        self._num_released += count
        if not self._pending:
            return ()
        cdef bint is_whole = is_end and self._num_released == self._num_bytes
        cdef list released = []
        while self._pending and (self._pending[0][0] < self._num_released or is_whole):
            released.append(self._pending.pop(0)[1])
        return tuple(released)

    cdef _logprob(self, sampled, bytes token):
        chosen = Candidate(token_id=sampled.token_id, token=token, logprob=sampled.logprob)
        top = [Candidate(token_id=i, token=self._bytes(i), logprob=logprob) for i, logprob in sampled.top]
        return TokenLogprob(chosen=chosen, top=tuple(top))

    cdef bytes _bytes(self, token_id):
        cdef bytes token = (self._visible.get(token_id) if self._visible else None) or self._token_bytes(token_id)
        return token[1:] if self._drops_space and token.startswith(b" ") else token


def extend_decoding(list work, dict answers, logits):
    """One token for each of the first sequences that simply go on, up to one whose prompt or guesses are at hand.

    Each has one row of `logits`, in the same order; the outputs come so, too, and then the sequences that they end.
    """
    cdef list outputs = [], ended = [], going_on = []
    cdef Answer answer
    cdef Py_ssize_t i
    for sequence, chunk in work:
        if not _simply_goes_on(sequence, chunk):
            break
        sequence.num_computed += len(<tuple>(<tuple>chunk)[0])
        going_on.append(answers[sequence])
    memory = bytearray(len(going_on) * sizeof(row_draw))  # of zeros
    cdef row_draw *draws = <row_draw *><char *>memory
    _draw_plain_ones(going_on, _on_host(logits), draws)
    for i, answer in enumerate(going_on):
        output = answer._extend_plainly(draws[i].token_id) if draws[i].is_finite else answer.extend(logits[i])
        outputs.append(output)
        if output.finish_reason is not None:
            ended.append(answer.sequence)
    return outputs, ended


cdef _draw_plain_ones(list answers, const float[:, ::1] rows, row_draw *draws):
    """A token, by all threads, for each answer of which nothing but the raw logits says what comes next."""
    cdef Answer answer
    cdef Py_ssize_t i
    if rows is None:
        return
    for i, answer in enumerate(answers):
        if answer._is_plain_now():
            draws[i].row, draws[i].params, draws[i].choice = &rows[i, 0], &answer._draw_params, answer._choice
            draws[i].position = answer._num_prompt + len(<list>answer.sequence.output_ids)
    draw_all(draws, len(answers), rows.shape[1])


cdef bint _simply_goes_on(sequence, chunk) except -1:
    """By place as records are made: the last of a chunk is for how many rows logits are wanted."""
    cdef list said = sequence.output_ids, drafts = sequence.draft_ids
    return <long>(<tuple>chunk)[3] == 1 and len(said) > 0 and len(drafts) == 0


cdef _on_host(logits):
    """Rows that can be looked at as they are, or None."""
    is_here = isinstance(logits, np.ndarray) and logits.dtype == np.float32 and logits.flags.c_contiguous
    return logits if is_here and logits.ndim == 2 else None


cdef dict _visible_bytes(tokenizer, tuple visible_ids):
    """The names of control tokens that a request wants to see."""
    if not visible_ids:
        return {}
    return {i: name.encode() for name, i in tokenizer.control_ids.items() if i in visible_ids}
