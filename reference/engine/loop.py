"""The loop that every engine shares, written once: schedule, forward, sample, stop, emit.

A synchronous core without threads or clock: `add` requests, call `step` for what is new, `abort` what is no longer
wanted. The caller gives the time, which only deadlines need. An engine is this loop and its `Parts`, the mirrored
names of reference/ or of fastpath/. An executor computes what the loop has planned; observers see what it does.
"""

from math import inf

from verbatim.reference.engine.adapters import LoadedAdapters
from verbatim.reference.engine.answers import AnswerFactory
from verbatim.reference.engine.executor import LocalExecutor
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.drawn import Drawn
from verbatim.reference.records.errors import NumericsError, QueueFullError, RequestError
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.observer import Observer, Token
from verbatim.reference.records.parts import Parts
from verbatim.reference.records.protocols import Answer, Executor, Model, Work
from verbatim.reference.records.request import FinishReason, Output, Request, check_request
from verbatim.reference.records.sequence import Chunk, Sequence
from verbatim.reference.speculation.draft_verifier import DraftVerifier
from verbatim.reference.speculation.drafts import make_speculator
from verbatim.reference.text.tokenizer import Tokenizer


class Engine:
    """The loop over one loaded model. The work of a step is each sequence with its chunk, in the order of the rows."""

    def __init__(
        self, parts: Parts, config: ModelConfig, model: Model, tokenizer: Tokenizer, *,
        limits: EngineLimits | None = None, draft_model=None,
    ):  # fmt: skip
        limits, self.parts, self.config = limits or EngineLimits(), parts, config
        self.tokenizer, self.max_queue = tokenizer, limits.max_queue
        num_pages = limits.num_pages(config, parts.page_size)
        self.cache = parts.PagedCache(config, num_pages, limits.kv_cache_dtype, num_slots=limits.num_slots(config))
        self.executor: Executor = LocalExecutor(model, self.cache)
        most = limits.prefix_cache_max_num_recycling_seqs
        self.prefix_cache = parts.PrefixCache(self.cache, most) if limits.prefix_cache_mode == "radix" else None
        self.scheduler = parts.Scheduler(
            self.cache, self.prefix_cache, max_num_sequence=limits.max_num_sequence, window=config.window,
            prefill_chunk_size=limits.prefill_chunk_size, prefill_mode=limits.prefill_mode, sinks=config.sinks,
        )  # fmt: skip
        self.context_size = min(config.context_size, self.scheduler.longest())
        drafts = make_speculator(parts, limits, model, draft_model, num_pages)
        self.drafts = DraftVerifier(drafts, limits.spec_draft_length, parts.adaptive_length, limits.history(config))
        self._answer_factory = AnswerFactory(config, tokenizer)
        self._answers: dict[Sequence, Answer] = {}
        self.adapters = LoadedAdapters(model, config, self._answers)
        self._observers: tuple[Observer, ...] = ()
        self._num_steps = 0

    @property
    def model(self) -> Model:
        """The model that the executor runs."""
        return self.executor.model

    def subscribe(self, observer: Observer) -> None:
        """Let an observer receive the events of all steps from now on."""
        self._observers = (*self._observers, observer)

    def add(self, request: Request, *, now: float = 0.0) -> None:
        """Queue a request, or raise: RequestError, ContextLengthError if its prompt is too long, QueueFullError.

        `now` is in seconds, on the clock that `step` is told.
        """
        check_request(request, self.config.vocab_size, self.context_size)
        self.adapters.check(request)
        if any(sequence.request.request_id == request.request_id for sequence in self._answers):
            raise RequestError(f"request_id {request.request_id!r} is in use", field="request_id")
        if sum(each.request.owner == request.owner for each in self.scheduler.waiting) >= self.max_queue:
            raise QueueFullError(f"{self.max_queue} sequences wait already; try again later")
        for observer in self._observers:
            observer.on_add(request)
        deadline = inf if request.timeout is None else now + request.timeout
        sequence = Sequence(request=request, num_forks=request.n - 1, deadline=deadline)
        self._answers[sequence] = self._answer_factory.make(self.parts, sequence, self.context_size)
        self.scheduler.add(sequence)

    def prepare(self, request: Request) -> None:
        """Compile a request's grammar ahead of `add`, or raise as it would; may run in another thread than `step`."""
        self._answer_factory.new_guide(request)

    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._answers)

    def step(self, *, now: float = 0.0) -> list[Output]:
        """One pass of the model over what the scheduler chose; what it adds to each choice."""
        for observer in self._observers:
            observer.on_step()
        outputs = self._expire(now)
        self.drafts.propose(self.scheduler.running, lambda sequence: self._answers[sequence].stopper.max_tokens)
        for observer in self._observers if self.drafts.speculator else ():
            observer.on_propose()
        if work := self.scheduler.schedule():
            self._num_steps += 1
            outputs += self._compute(work)
        if self._observers:
            self._close(outputs)
        return outputs

    def _compute(self, work: Work) -> list[Output]:
        """The forward pass over a step's work, its samples, and what they add to each choice."""
        for observer in self._observers:
            observer.on_schedule(work)
        rows = self.drafts.forward(self.executor, self.cache, work, self.scheduler.prefill_chunk_size)
        for observer in self._observers:
            observer.on_forward(work)
        drawn = self.parts.sample_batch(rows, work, self._answers)
        outputs, ended = self.parts.extend_decoding(work, self._answers, drawn)
        if self._observers:
            for (sequence, _), output, row in zip(work, outputs, drawn, strict=False):
                self._show(sequence, row, output)
        for sequence in ended:
            self._remove(sequence)
        if others := work[len(outputs) :]:
            shares = self.drafts.share(others, drawn, first=len(outputs))
            for (sequence, chunk), share in zip(others, shares, strict=True):
                outputs += self._advance(sequence, chunk, share)
        return outputs

    def _advance(self, sequence: Sequence, chunk: Chunk, rows: list) -> list[Output]:
        """What a sequence's rows of a pass come to: drafts verified, scores of its prompt, a token, or nothing yet."""
        drafts, sequence.draft_ids = sequence.draft_ids, []
        sequence.num_computed += len(chunk.token_ids) - len(drafts)
        is_complete = sequence.num_uncomputed == 0
        if sequence.request.pooling:
            return self._pool(sequence, rows)
        num_scores = chunk.num_logits - len(drafts) - is_complete
        try:
            outputs = [self._score(sequence, rows[:num_scores])] if num_scores else []
        except NumericsError as error:
            return self._end(sequence, FinishReason.ERROR, str(error))
        if drafts:
            return [*outputs, self.drafts.verify(sequence, drafts, rows[num_scores:], self.cache, self._extend)]
        if is_complete and sequence.request.stopping.max_tokens == 0:
            return [*outputs, *self._end(sequence, FinishReason.LENGTH)]
        if is_complete:
            if not sequence.output_ids:  # the prompt is done: its full pages can serve others from now on
                size = self.parts.page_size
                self.scheduler.remember(sequence, sequence.num_computed // size * size)
            choices = self._branch(sequence) if sequence.num_forks else (sequence,)
            outputs += [self._extend(choice, rows[num_scores]) for choice in choices]
        return outputs

    def _expire(self, now: float) -> list[Output]:
        """End what has taken longer than it may."""
        outputs = []
        for sequence in [known for known in self._answers if known.deadline <= now]:
            message = f"timeout: the answer took longer than the {sequence.request.timeout} seconds that it may"
            outputs += self._end(sequence, FinishReason.TIMEOUT, message)
        return outputs

    def _end(self, sequence: Sequence, reason: FinishReason, message: str | None = None) -> list[Output]:
        """End a choice without another token, and with it those that have not branched off yet."""
        output = self._answers[sequence].end(reason, message)
        forks = [output._replace(choice=choice) for choice in range(1, sequence.num_forks + 1)]
        self._remove(sequence)
        return [output, *forks]

    def _score(self, sequence: Sequence, rows) -> Output:
        """Log-probabilities of the tokens of the prompt that come after `rows`."""
        request, first = sequence.request, sequence.num_scored + 1
        sequence.num_scored += len(rows)
        ids = request.prompt_ids[first : first + len(rows)]
        assert request.prompt_logprobs is not None, "scores that nobody asked for"
        scored = [
            row.take() if isinstance(row, Drawn) else self.parts.score(row, token_id, request.prompt_logprobs)
            for row, token_id in zip(rows, ids, strict=True)
        ]
        return self._answers[sequence].score(scored)

    def _pool(self, sequence: Sequence, states) -> list[Output]:
        """Take the states of the prompt's next tokens into its vector; the last of them end the request."""
        sequence.num_scored += len(states)
        pool = self._answers[sequence].pool
        pool.add(states)
        if sequence.num_uncomputed:
            return []
        try:
            vector = pool.vector()
        except NumericsError as error:
            return self._end(sequence, FinishReason.ERROR, str(error))
        return [output._replace(embedding=vector) for output in self._end(sequence, FinishReason.STOP)]

    def abort(self, request_id: str) -> None:
        """Remove a request and free its pages; one that has ended, or never was, is no error."""
        found = [sequence for sequence in self._answers if sequence.request.request_id == request_id]
        for sequence in found:
            self._remove(sequence)
        for observer in self._observers if found else ():
            observer.on_abort(request_id)

    def stats(self) -> dict[str, int]:
        """Counts for people and metrics: sequences, pages, steps."""
        num_idle = 0 if self.prefix_cache is None else self.prefix_cache.num_idle
        return {
            "running": len(self.scheduler.running),
            "waiting": len(self.scheduler.waiting),
            "used_pages": self.cache.num_pages - self.cache.num_free - num_idle,
            "cached_pages": num_idle,
            "total_pages": self.cache.num_pages,
            **self.scheduler.count_slots(),
            "steps": self._num_steps,
            "drafted_tokens": self.drafts.num_drafted,
            "accepted_tokens": self.drafts.num_accepted,
        }

    def check(self) -> None:
        """Raise AssertionError if an invariant of the books does not hold."""
        self.scheduler.check()
        self.drafts.check()
        assert {*self.scheduler.running, *self.scheduler.waiting} == {*self._answers}, "sequences and answers differ"

    def _branch(self, sequence: Sequence) -> list[Sequence]:
        """The sequence, and on its first token the further choices, which share the pages of its prompt."""
        forks = [self.scheduler.fork(sequence, choice) for choice in range(1, sequence.num_forks + 1)]
        for fork in forks:
            self._answers[fork] = self._answer_factory.make(self.parts, fork, self.context_size)
        sequence.num_forks = 0
        self.scheduler.add_forks(forks)
        self.drafts.branch(sequence, forks)
        return [sequence, *forks]

    def _extend(self, sequence: Sequence, row, drafts=()) -> Output:
        """Append one token to the answer, drawn before or to be drawn from these logits; remove an ended sequence."""
        answer = self._answers[sequence]
        drawn = row if isinstance(row, Drawn) else answer.draw(row)
        output = answer.extend(drawn)
        if self._observers:
            self._show(sequence, drawn, output, drafts)
        if output.finish_reason is not None:
            self._remove(sequence)
        return output

    def _show(self, sequence: Sequence, drawn: Drawn, output: Output, drafts=()) -> None:
        """Tell the observers of a token, unless there is none because of an error."""
        if not output.token_ids:
            return
        held = self._answers[sequence].stopper.held
        token = Token(sequence, drawn.logits, drawn.sampled, drawn.excluded, output, held, tuple(drafts))
        for observer in self._observers:
            observer.on_token(token)

    def _close(self, outputs: list[Output]) -> None:
        """Tell the observers which choices have finished, and that the step is over."""
        for observer in self._observers:
            for output in outputs:
                if output.finish_reason is not None:
                    observer.on_finish(output)
            observer.on_step_end(outputs)

    def _remove(self, sequence: Sequence) -> None:
        self.scheduler.remove(sequence)
        self.drafts.forget(sequence)
        del self._answers[sequence]
        self.adapters.sweep()
