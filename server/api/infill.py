"""`POST /infill`: llama.cpp's way to fill in the middle, which editors (llama.vim, llama.vscode) ask for.

The answer is what stands between `input_prefix` with `prompt` after it, and `input_suffix`. `input_extra` are texts of
other files, which come first. The model needs the tokens of a known family (reference/text/infill.py). Streams are
events without a mark at the end; they are not resumed on another server.
"""

import time
from typing import Any

from verbatim.reference.records.errors import UnsupportedError
from verbatim.reference.records.request import FinishReason, Output
from verbatim.server.api import parameters
from verbatim.server.api.adapter import Adapter
from verbatim.server.api.builder import Builder, Streaming
from verbatim.server.api.completions.choice import CompletionBuilder, CompletionChoice
from verbatim.server.api.completions.request import read_completion
from verbatim.server.api.fields import Field, Object, answer, required
from verbatim.server.api.foreign_fields import REQUEST
from verbatim.server.api.ollama.options import EXAMPLES, SAMPLING, TYPES
from verbatim.server.api.value_types import BOOLEAN, OBJECT, STRING, array, integer
from verbatim.server.models.served import ServedModel

EXTRA = Object(
    required("text", STRING, "The text of the file, or a part of it.", "import os"),
    Field("filename", STRING, "The name of the file.", default="", example="main.py"),
)
MIDDLE = {"input_prefix": "def add(a, b):\n    ", "input_suffix": "\n\nprint(add(1, 2))\n", "n_predict": 16}
BODY = Object(
    parameters.MODEL,
    Field("input_prefix", STRING, "The text before the gap.", default="", example=MIDDLE["input_prefix"]),
    Field("input_suffix", STRING, "The text after the gap.", default="", example=MIDDLE["input_suffix"]),
    Field("input_extra", array(EXTRA), "Texts of other files.", default=(), example=[{"text": "import os"}]),
    Field("prompt", STRING, "More text before the gap.", default="", example="return "),
    Field("n_predict", integer(-2), "The answer has at most so many tokens; below 1 no bound.", example=64),
    *(Field(name, TYPES[ours], f"As `{ours}` of chats.", example=EXAMPLES[name]) for name, ours in SAMPLING.items()),
    Field("stream", BOOLEAN, "Send the answer as server-sent events as it is made.", default=False),
    parameters.CACHE_KEY,
    foreign=REQUEST,
)
TIMINGS = {"prompt_n": 21, "prompt_ms": 3.5, "predicted_n": 8, "predicted_ms": 20.0}
SCHEMA = answer(
    required("content", STRING, "The text for the gap, or a piece of it.", "return a + b"),
    required("stop", BOOLEAN, "Whether the answer is complete.", True),
    required("model", STRING, "The id of the model.", "verbatim-demo"),
    required("tokens_predicted", integer(0), "Tokens of the answer.", 8),
    required("tokens_evaluated", integer(0), "Tokens of the prompt.", 21),
    required("timings", OBJECT, "How many tokens took how long, in milliseconds.", TIMINGS),
)


class InfillAdapter(Adapter):
    """Filling in the middle."""

    name, path, prompt_field = "infill", "/infill", "input_prefix"
    summary = "Fill in the middle of a text, in llama.cpp's form"
    body, answer = BODY, "Infill"
    examples = {"A function": MIDDLE, "Streamed": MIDDLE | {"stream": True}}  # noqa: RUF012
    schemas = {"Infill": SCHEMA}  # noqa: RUF012
    is_resumable = False
    end = b""

    def read(self, body: Any, model: ServedModel) -> "InfillBuilder":
        """The builder of the answer."""
        fields = BODY.read(body)
        if model.infill is None:
            message = "This model's tokenizer has none of the tokens that models use to fill in the middle"
            raise UnsupportedError(message, field="input_suffix")
        fields["model"]
        prefix, suffix = fields["input_prefix"] + fields["prompt"], fields["input_suffix"]
        extra = []
        for each in fields["input_extra"]:
            extra.append((each["filename"], each["text"]))
            each.done()
        num_predict = fields["n_predict"] or 0
        wanted = {ours: value for name, ours in SAMPLING.items() if (value := fields[name]) is not None}
        wanted["stop"] = list(wanted.get("stop", ()))
        is_stream, salt = fields["stream"], fields["prompt_cache_key"]
        fields.done()
        model.check_text((prefix, suffix, *(text for pair in extra for text in pair)), "input_prefix")
        ids = model.infill.encode(model.tokenizer, prefix, suffix, extra)
        wanted |= {"prompt": ids, "stop_token_ids": list(model.infill.stop_ids), "prompt_cache_key": salt}
        wanted |= {"model": model.model_id}
        wanted["max_tokens"] = num_predict if num_predict > 0 else model.config.context_size
        return InfillBuilder(model.model_id, read_completion(wanted, model), is_stream=is_stream)


class InfillBuilder(Builder):
    """Pieces of an answer as llama.cpp writes them, the last with counts."""

    def __init__(self, name: str, inner: CompletionBuilder, *, is_stream: bool):
        self.requests, self.name = inner.requests, name
        self.streaming = Streaming(is_stream=is_stream)
        self._choice: CompletionChoice = next(iter(inner.choices.values()))
        self._start = time.perf_counter()
        self._first: float | None = None  # when the first token had come
        self._latest: Output | None = None

    def take(self, output: Output) -> list[dict]:
        """A piece with the new text, and at the end one with the counts."""
        self._latest = output
        if self._first is None and output.num_completion_tokens:
            self._first = time.perf_counter()
        text = "".join(item["text"] for item in self._choice.take(output))
        pieces = [self._piece(text)] if text else []
        return [*pieces, self._piece("") | self._counts()] if output.finish_reason else pieces

    def whole(self) -> dict:
        """The whole answer."""
        return self._piece("".join(self._choice.texts)) | self._counts()

    def _piece(self, text: str) -> dict:
        return {"index": 0, "content": text, "tokens": [], "stop": False, "model": self.name}

    def _counts(self) -> dict:
        output = self._latest
        assert output is not None, "an answer that is complete has an output"
        end = time.perf_counter()
        first = self._first or end
        num_prompt, num_predicted = len(self.requests[0].prompt_ids), output.num_completion_tokens
        is_word = isinstance(output.stop_reason, str)
        is_cut = output.finish_reason is FinishReason.LENGTH
        return {
            "stop": True,
            "stop_type": "limit" if is_cut else "word" if is_word else "eos",
            "stopping_word": output.stop_reason if is_word else "",
            "truncated": False,
            "tokens_predicted": num_predicted,
            "tokens_evaluated": num_prompt,
            "tokens_cached": output.num_cached_tokens,
            "timings": _timing("prompt", num_prompt, first - self._start)
            | _timing("predicted", num_predicted, end - first),
        }


def _timing(name: str, num_tokens: int, seconds: float) -> dict:
    per_token, per_second = (seconds / num_tokens if num_tokens else 0), (num_tokens / seconds if seconds else 0)
    return {
        f"{name}_n": num_tokens, f"{name}_ms": seconds * 1000, f"{name}_per_token_ms": per_token * 1000,
        f"{name}_per_second": per_second,
    }  # fmt: skip
