"""Mirrored. One choice's way from logits to text: what is drawn, what of it may be shown, and when it ends.

The same steps as in reference/engine/answer.py. One is taken for every token, so records are made by place, and where
nothing but the largest logit or a draw is asked for, all threads draw from the rows of a step (draws.pyx).
"""

import numpy as np

from verbatim.fastpath.text.detokenizer cimport Detokenizer
from verbatim.fastpath.sampling.draws cimport draw_all, row_draw
from verbatim.fastpath.sampling.rules cimport adjusts, draw_params, draw_params_of
from verbatim.fastpath.text.stopping cimport Stopper

from verbatim.fastpath.sampling.rules import Sampled, sample as sample_here
from verbatim.reference.records.drawn import Drawn
from verbatim.reference.records.errors import NumericsError, RequestError
from verbatim.reference.model.pooling import Pool
from verbatim.reference.records.request import Candidate, FinishReason, Output, TokenLogprob


cdef class Answer:
    """The text after a sequence's prompt, put together from the engine's own `sample`, stopper and detokenizer.

    `sampled` is the latest token, None if none could be drawn; `excluded` are the ids that could not be.
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

    cpdef draw(self, logits):
        """Sample the next token from its logits (vocab,), without taking it in."""
        cdef list output_ids = self.sequence.output_ids
        excluded = ()
        try:
            excluded = self.excluded_ids()
            sampled = self.sample(
                logits, self._sampling, prompt_ids=self._prompt_ids, output_ids=output_ids,
                position=self._num_prompt + len(output_ids), choice=self._choice, excluded=excluded,
            )
        except (NumericsError, RequestError) as error:  # no other choice is affected
            return _drawn(None, error, logits, excluded)
        return _drawn(sampled, None, logits, excluded)

    cpdef extend(self, row):
        """Append the next token: as it was drawn, or from its logits (vocab,). An error ends this answer alone."""
        drawn = row if type(row) is Drawn else self.draw(row)
        sampled, error, _, self.excluded = drawn
        self.sampled = None
        if error is not None:
            return self.end(FinishReason.ERROR, str(error))
        try:
            (<list>self.sequence.output_ids).append(sampled.token_id)
            output = self.push(sampled)
        except (NumericsError, RequestError) as failure:
            return self.end(FinishReason.ERROR, str(failure))
        self.sampled = sampled
        return output

    cdef bint _is_plain_now(self) noexcept:
        """Whether nothing but the raw logits says what is drawn next."""
        return self._is_plain and self.stopper.num_tokens >= self.stopper.min_tokens

    cdef _extend_plainly(self, token_id):
        """Append the drawn token where nothing changes the logits and no log-probability is asked for."""
        (<list>self.sequence.output_ids).append(token_id)
        return self._append(token_id, None)

    cpdef excluded_ids(self):
        """Ids that may not be drawn next. Where a grammar can only end, it may do so before `min_tokens`."""
        if self.guide is None:
            return self.stopper.excluded_ids()
        forbidden = self.guide.excluded_ids()
        both = np.union1d(forbidden, np.asarray(self.stopper.excluded_ids(), np.int64))
        return both if len(both) < self.guide.vocab_size else forbidden

    cpdef push(self, sampled):
        """Append a sampled token: new text, the log-probabilities that go with it, the end if it is one."""
        return self._append(sampled.token_id, None if sampled.logprob is None else sampled)

    cdef _append(self, token_id, scored):
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
        own = () if scored is None else (scored.logprob,)
        return self._output(text, (token_id,), finish_reason, stop_reason, None, shown, (), own)

    def score(self, scored):
        """Log-probabilities of the next tokens of the prompt."""
        entries = tuple([self._logprob(token, self._bytes(token.token_id)) for token in scored])
        return self._output("", (), None, None, None, (), entries, ())

    def end(self, reason, message=None):
        """The end without another token: none was asked for, an error, a deadline."""
        return self._output("", (), reason, None, message, (), (), ())

    cdef _output(self, str text, tuple token_ids, finish_reason, stop_reason, error, logprobs, scores, token_logprobs):
        sequence = self.sequence
        return tuple.__new__(Output, (
            self._request_id, self._choice, text, token_ids, self._num_prompt, sequence.num_cached,
            len(<list>sequence.output_ids), sequence.num_drafted, sequence.num_accepted, finish_reason, stop_reason,
            error, logprobs, scores, (), token_logprobs,
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


cdef class Draws:
    """What `sample_batch` drew: a `Drawn` for each of the first rows, the logits themselves for those behind them."""

    cdef object rows, memory
    cdef list decoding, found  # answers; what was drawn for each, None where it stands in `draws`
    cdef row_draw *draws

    def __init__(self, rows, list decoding):
        self.rows, self.decoding, self.found = rows, decoding, [None] * len(decoding)
        self.memory = bytearray(len(decoding) * sizeof(row_draw))  # of zeros
        self.draws = <row_draw *><char *>self.memory

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, Py_ssize_t row):
        if row < 0 or row >= len(self.found):
            return self.rows[row]
        found = self.found[row]
        return _drawn(Sampled(self.draws[row].token_id), None, self.rows[row], ()) if found is None else found


def sample_batch(rows, list work, dict answers):
    """Draw the tokens of a step: for each of `rows` what was drawn (Drawn), or the row itself, as in the reference.

    All threads share the draws that depend on nothing but the raw logits.
    """
    cdef Draws drawn = Draws(rows, _decoding(work, answers))
    cdef Answer answer
    cdef Py_ssize_t i
    _draw_plain_ones(drawn.decoding, _on_host(rows), drawn.draws)
    for i, answer in enumerate(drawn.decoding):
        if not drawn.draws[i].is_finite:  # also where no draw was asked for
            drawn.found[i] = answer.draw(rows[i])
    return drawn


def extend_decoding(list work, dict answers, drawn):
    """Append what `sample_batch` drew for the first sequences: their outputs, and the sequences that ended."""
    cdef list outputs = [], ended = []
    cdef Draws plain = drawn if isinstance(drawn, Draws) else None
    cdef list decoding = _decoding(work, answers) if plain is None else plain.decoding
    cdef Answer answer
    cdef Py_ssize_t i
    for i, answer in enumerate(decoding):
        answer.sequence.num_computed += len(<tuple>(<tuple>(<tuple>work[i])[1])[0])
        if plain is not None and plain.found[i] is None:
            output = answer._extend_plainly(plain.draws[i].token_id)
        else:
            output = answer.extend(drawn[i])
        outputs.append(output)
        if output.finish_reason is not None:
            ended.append(answer.sequence)
    return outputs, ended


cdef list _decoding(list work, dict answers):
    """The answers of the first sequences that decode one token each."""
    cdef list decoding = []
    for sequence, chunk in work:
        if not _decodes_one_token(sequence, chunk):
            break
        decoding.append(answers[sequence])
    return decoding


cdef _drawn(sampled, error, logits, excluded):
    """By place, without the call that names cost."""
    return tuple.__new__(Drawn, (sampled, error, logits, excluded))


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


cdef bint _decodes_one_token(sequence, chunk) except -1:
    """By place as records are made: the last of a chunk is for how many rows logits are wanted."""
    cdef list output_ids = sequence.output_ids, drafts = sequence.draft_ids
    return <long>(<tuple>chunk)[3] == 1 and len(output_ids) > 0 and len(drafts) == 0


cdef _on_host(logits):
    """Rows that can be read as they are, or None."""
    is_here = isinstance(logits, np.ndarray) and logits.dtype == np.float32 and logits.flags.c_contiguous
    return logits if is_here and logits.ndim == 2 else None


cdef dict _visible_bytes(tokenizer, tuple visible_ids):
    """The names of control tokens that a request wants to see."""
    if not visible_ids:
        return {}
    return {i: tokenizer.control_names[i] for i in visible_ids if i in tokenizer.control_names}
