"""The loop that every engine shares, written once: schedule, forward, sample, stop, emit.

A synchronous core without threads or clock: `add` requests, call `step` for what is new, `abort` what is no longer
wanted. An engine is this loop and its `Parts`, the mirrored names of reference/ or of fastpath/.
"""

from collections.abc import Callable
from dataclasses import dataclass

from reference.answer import Answer
from reference.config import ModelConfig
from reference.errors import ContextLengthError, ModelError, NumericsError, QueueFullError, RequestError
from reference.grammar import GrammarCompiler
from reference.limits import EngineLimits
from reference.parts import Parts
from reference.request import Output, Request, joined, require
from reference.sequence import Sequence
from reference.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Observation:
    """One sampled token as `observe` sees it: what it was drawn from, what came of it, what stopping holds back."""

    sequence: Sequence
    logits: object
    sampled: object
    excluded: tuple[int, ...]
    output: Output
    held: bytes


class Engine:
    """The loop over one loaded model. `observe`, once set, sees every sampled token (for `--explain`)."""

    def __init__(
        self,
        parts: Parts,
        config: ModelConfig,
        model,
        tokenizer: Tokenizer,
        *,
        limits: EngineLimits | None = None,
        draft_model=None,
    ):
        limits = limits or EngineLimits()
        self.parts, self.config, self.model, self.tokenizer = parts, config, model, tokenizer
        self.max_queue = limits.max_queue
        self.observe: Callable[[Observation], None] | None = None
        num_pages = limits.num_pages(config, parts.page_size)
        self.context_size = min(config.context_size, num_pages * parts.page_size)
        self.cache = parts.PagedCache(config, num_pages)
        self.prefix_cache = parts.PrefixCache(self.cache) if limits.prefix_cache_mode == "radix" else None
        self.scheduler = parts.Scheduler(
            self.cache, self.prefix_cache, max_num_sequences=limits.max_num_sequences, token_budget=limits.token_budget
        )
        self.draft_length = limits.draft_length
        self.speculator = self._speculator(limits.speculative_mode, draft_model, num_pages)
        self._num_drafted = self._num_accepted = 0
        self._grammars: GrammarCompiler | None = None  # made when the first grammar comes
        self._answers: dict[Sequence, Answer] = {}
        self._num_steps = 0

    def add(self, request: Request) -> None:
        """Queue a request, or raise: RequestError, ContextLengthError if its prompt is too long, QueueFullError."""
        self._check_request(request)
        if len(self.scheduler.waiting) >= self.max_queue:
            raise QueueFullError(f"{self.max_queue} sequences wait already; try again later")
        sequence = Sequence(request=request, num_forks=request.n - 1)
        self._answers[sequence] = self._answer(sequence)
        self.scheduler.add(sequence)

    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._answers)

    def step(self) -> list[Output]:
        """One pass of the model over what the scheduler chose; what it adds to each choice."""
        self._draft()
        work = self.scheduler.schedule()
        if not work:
            return []
        self._num_steps += 1
        rows = iter(self.model.forward([chunk for _, chunk in work], self.cache))
        outputs = []
        for sequence, chunk in work:
            drafts, sequence.draft_ids = sequence.draft_ids, []
            sequence.num_computed += len(chunk.token_ids) - len(drafts)
            if drafts:
                outputs.append(self._verify(sequence, drafts, rows))
            elif chunk.num_logits:
                if not sequence.output_ids:  # the prompt is done: its full pages can serve others from now on
                    size = self.parts.page_size
                    self.scheduler.remember(sequence, sequence.num_computed // size * size)
                logits = next(rows)
                outputs.extend(self._extend(choice, logits) for choice in self._branch(sequence))
        return outputs

    def _draft(self) -> None:
        """Let the speculator guess what the running sequences say next."""
        if self.speculator is None:
            return
        decoding = [one for one in self.scheduler.running if one.output_ids and one.num_uncomputed == 1]
        length = self.draft_length or self.parts.adaptive_length(len(decoding))
        rooms = ((one, self._answers[one].stopper.max_tokens - len(one.output_ids) - 1) for one in decoding)
        self.speculator.propose({sequence: min(length, room) for sequence, room in rooms})

    def _verify(self, sequence: Sequence, drafts: list[int], rows) -> Output:
        """Say tokens as long as they are the guessed ones, and the first that is not; skip what is left of the rows."""
        logits = [next(rows) for _ in range(len(drafts) + 1)]
        outputs = [self._extend(sequence, logits[0])]
        accepted = 0
        while accepted < len(drafts) and not outputs[-1].finish_reason and sequence.output_ids[-1] == drafts[accepted]:
            accepted += 1
            sequence.num_computed += 1
            outputs.append(self._extend(sequence, logits[accepted]))
        sequence.num_drafted += len(drafts)
        sequence.num_accepted += accepted
        self._num_drafted += len(drafts)
        self._num_accepted += accepted
        return joined(outputs, num_drafted_tokens=sequence.num_drafted, num_accepted_tokens=sequence.num_accepted)

    def _speculator(self, mode: str, draft_model, num_pages: int):
        if mode == "disable":
            return None
        if mode == "ngram":
            return self.parts.NgramSpeculator()
        if draft_model is None:
            raise ModelError("speculative mode small_draft needs a draft model")
        if draft_model.config.vocab_size != self.config.vocab_size:
            sizes = f"{draft_model.config.vocab_size} tokens, the model {self.config.vocab_size}"
            raise ModelError(f"the draft model must have the model's vocabulary, but it has {sizes}")
        self.context_size = min(self.context_size, draft_model.config.context_size)
        return self.parts.DraftSpeculator(draft_model, self.parts.PagedCache(draft_model.config, num_pages))

    def abort(self, request_id: str) -> None:
        """Forget a request and free its pages; one that has ended, or never was, is no error."""
        for sequence in [one for one in self._answers if one.request.request_id == request_id]:
            self._remove(sequence)

    def stats(self) -> dict[str, int]:
        """Counts for people and metrics: sequences, pages, steps."""
        num_idle = self.prefix_cache.num_idle if self.prefix_cache is not None else 0
        return {
            "running": len(self.scheduler.running),
            "waiting": len(self.scheduler.waiting),
            "used_pages": self.cache.num_pages - self.cache.num_free - num_idle,
            "cached_pages": num_idle,
            "total_pages": self.cache.num_pages,
            "steps": self._num_steps,
            "drafted_tokens": self._num_drafted,
            "accepted_tokens": self._num_accepted,
        }

    def check(self) -> None:
        """Raise AssertionError if an invariant of the books does not hold."""
        self.scheduler.check()
        if self.speculator is not None:
            self.speculator.check()
        listed = {*self.scheduler.running, *self.scheduler.waiting}
        assert listed == set(self._answers), "scheduled sequences and their answers differ"

    def _branch(self, sequence: Sequence) -> list[Sequence]:
        """The sequence, and on its first token the further choices, which share the pages of its prompt."""
        forks = []
        for choice in range(1, sequence.num_forks + 1):
            fork = Sequence(
                request=sequence.request,
                choice=choice,
                num_computed=sequence.num_computed,
                pages=self.cache.share(sequence.pages),
            )
            self._answers[fork] = self._answer(fork)
            forks.append(fork)
        sequence.num_forks = 0
        self.scheduler.add_forks(forks)
        return [sequence, *forks]

    def _extend(self, sequence: Sequence, logits) -> Output:
        """Sample one token and let the answer take it in; an ended sequence leaves at once."""
        answer, request = self._answers[sequence], sequence.request
        try:
            excluded = answer.excluded_ids()
            sampled = self.parts.sample(
                logits,
                request.sampling,
                prompt_ids=request.prompt_ids,
                output_ids=sequence.output_ids,
                position=len(sequence),
                choice=sequence.choice,
                excluded=excluded,
            )
            sequence.output_ids.append(sampled.token_id)
            output = answer.push(sampled)
        except (NumericsError, RequestError) as error:  # this choice cannot go on; no other is touched
            self._remove(sequence)
            return answer.fail(str(error))
        if self.observe:
            self.observe(Observation(sequence, logits, sampled, excluded, output, answer.stopper.held))
        if output.finish_reason is not None:
            self._remove(sequence)
        return output

    def _remove(self, sequence: Sequence) -> None:
        self.scheduler.remove(sequence)
        if self.speculator is not None:
            self.speculator.forget(sequence)
        del self._answers[sequence]

    def _answer(self, sequence: Sequence) -> Answer:
        stopper = self.parts.Stopper(
            sequence.request.stopping,
            eos_ids=self.config.eos_ids,
            num_prompt=len(sequence.request.prompt_ids),
            context_size=self.context_size,
        )
        grammar = sequence.request.grammar
        guide = self._compiler().compile(grammar) if grammar else None
        return Answer(sequence, self.tokenizer, stopper, self.parts.Detokenizer(), guide)

    def _compiler(self) -> GrammarCompiler:
        if self._grammars is None:
            self._grammars = GrammarCompiler(self.tokenizer, self.config.vocab_size, self.config.eos_ids)
        return self._grammars

    def _check_request(self, request: Request) -> None:
        """What can only be said with the model at hand: the context, the vocabulary, the ids in use."""
        num_prompt, vocab_size = len(request.prompt_ids), self.config.vocab_size
        if num_prompt >= self.context_size:
            raise ContextLengthError(
                f"the prompt has {num_prompt} tokens, but the context holds {self.context_size} with the answer",
                field="prompt",
            )
        for name, ids in (
            ("prompt", request.prompt_ids),
            ("logit_bias", request.sampling.logit_bias),
            ("stop_token_ids", request.stopping.token_ids),
            ("visible_ids", request.visible_ids),
        ):
            for token_id in ids:
                require(
                    0 <= token_id < vocab_size, name, token_id, f"token ids below the vocabulary's size, {vocab_size}"
                )
        if any(sequence.request.request_id == request.request_id for sequence in self._answers):
            raise RequestError(f"request_id {request.request_id!r} is in use", field="request_id")
