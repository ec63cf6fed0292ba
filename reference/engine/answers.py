"""Makes the answer of each sequence from an engine's parts, and compiles the grammars that requests bring."""

from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.parts import Parts
from verbatim.reference.records.protocols import Answer
from verbatim.reference.records.sequence import Sequence
from verbatim.reference.text.grammar import GrammarCompiler
from verbatim.reference.text.tokenizer import Tokenizer


class AnswerFactory:
    """New answers for sequences of one engine."""

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer):
        self._config, self._tokenizer = config, tokenizer
        self._grammars: GrammarCompiler | None = None  # made when the first grammar comes

    def make(self, parts: Parts, sequence: Sequence, context_size: int) -> Answer:
        """An answer that fits `context_size` tokens with its prompt; with a guide if its request has a grammar."""
        request = sequence.request
        stopper = parts.Stopper(
            request.stopping,
            eos_ids=self._config.eos_ids,
            num_prompt=len(request.prompt_ids),
            context_size=context_size,
        )
        guide = self.compile(request.grammar) if request.grammar else None
        return parts.Answer(sequence, self._tokenizer, parts.sample, stopper, parts.Detokenizer(), guide)

    def compile(self, grammar):
        """The guide of a grammar, compiled once; RequestError if it cannot be."""
        if self._grammars is None:
            self._grammars = GrammarCompiler(self._tokenizer, self._config.vocab_size, self._config.eos_ids)
        return self._grammars.compile(grammar)
