"""Makes the answer of each sequence from an engine's parts, and the guides that its request needs."""

from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.grammar_text import Grammar
from verbatim.reference.records.parts import Parts
from verbatim.reference.records.protocols import Answer
from verbatim.reference.records.request import Request
from verbatim.reference.records.sequence import Sequence
from verbatim.reference.records.thinking import Ending, Thinking
from verbatim.reference.text.grammar import GrammarCompiler, Guide
from verbatim.reference.text.thoughts import ThoughtGuide, ThoughtVocabulary
from verbatim.reference.text.tokenizer import Tokenizer

MAX_VOCABULARIES = 8
Marks = tuple[str, tuple[Ending, ...], str]


class AnswerFactory:
    """New answers for sequences of one engine."""

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer):
        self._config, self._tokenizer = config, tokenizer
        self._grammars: GrammarCompiler | None = None  # made when the first grammar comes
        self._vocabularies: dict[Marks, ThoughtVocabulary] = {}  # the same for the marks of thoughts

    def make(self, parts: Parts, sequence: Sequence, context_size: int) -> Answer:
        """An answer that fits `context_size` tokens with its prompt; with a guide if its request needs one."""
        request = sequence.request
        stopper = parts.Stopper(
            request.stopping,
            eos_ids=self._config.eos_ids,
            num_prompt=len(request.prompt_ids),
            context_size=context_size,
        )
        guide = self.new_guide(request)
        return parts.Answer(sequence, self._tokenizer, parts.sample, stopper, parts.Detokenizer(), guide)

    def new_guide(self, request: Request) -> Guide | ThoughtGuide | None:
        """What a request's grammar and its budget of thought allow, or None; RequestError if it cannot be compiled."""
        grammar, thinking = request.grammar, request.thinking
        if not request.needs_guide or thinking is None:
            return self._compile(grammar) if grammar else None
        new_guide = None if grammar is None else lambda: self._compile(grammar)
        if new_guide:
            new_guide()  # now, for its errors
        return ThoughtGuide(thinking, self._vocabulary(thinking), self._config.eos_ids, new_guide)

    def _vocabulary(self, thinking: Thinking) -> ThoughtVocabulary:
        key = (thinking.opening, thinking.endings, thinking.forced)
        if key not in self._vocabularies:
            if len(self._vocabularies) >= MAX_VOCABULARIES:
                self._vocabularies.pop(next(iter(self._vocabularies)))
            self._vocabularies[key] = ThoughtVocabulary(self._tokenizer, self._config.vocab_size, thinking)
        return self._vocabularies[key]

    def _compile(self, grammar: Grammar) -> Guide:
        """The guide of a grammar, compiled once."""
        if self._grammars is None:
            self._grammars = GrammarCompiler(self._tokenizer, self._config.vocab_size, self._config.eos_ids)
        return self._grammars.compile(grammar)
