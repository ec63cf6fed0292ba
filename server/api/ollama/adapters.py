"""`POST /api/chat`, `/api/generate`, `/api/embed` and `/api/embeddings`, as Ollama's clients know them.

Bodies become those of OpenAI's APIs, so that an answer has the same words there. Streams are lines of JSON, and the
default; they are not resumed on another server. A last message of the assistant is continued.
"""

import time
from typing import Any

from verbatim.reference.records.request import Request
from verbatim.server.api import parameters
from verbatim.server.api.adapter import Adapter
from verbatim.server.api.builder import Builder
from verbatim.server.api.chat.request import read_chat
from verbatim.server.api.completions.request import read_completion
from verbatim.server.api.embeddings import MAX_INPUTS, VectorBuilder, read_inputs
from verbatim.server.api.fields import Field, Fields, Object, answer, required
from verbatim.server.api.foreign_fields import EMBEDDING, REQUEST
from verbatim.server.api.ollama import about
from verbatim.server.api.ollama.conversation import MESSAGE_BODY, to_openai
from verbatim.server.api.ollama.events import MEDIA_TYPE, LineBuilder, LoadedBuilder, line, shape
from verbatim.server.api.ollama.options import COMMON, own_names, take_common
from verbatim.server.api.texts import texts
from verbatim.server.api.value_types import (
    ANYTHING,
    BOOLEAN,
    NULLABLE_STRING,
    OBJECT,
    STRING,
    ValueType,
    array,
    integer,
)
from verbatim.server.models.served import ServedModel

HELLO = {"messages": [{"role": "user", "content": "Hello"}], "options": {"num_predict": 16}}
WORD = {"prompt": "Hello", "options": {"num_predict": 16}}
CHAT = Object(
    parameters.MODEL,
    required("messages", array(MESSAGE_BODY), "The conversation, oldest message first.", HELLO["messages"]),
    Field("tools", array(OBJECT), "The functions that the model may call.", default=(), example=[]),
    *COMMON,
    foreign=REQUEST,
)
GENERATE = Object(
    parameters.MODEL,
    Field("prompt", STRING, "The text to answer; with `raw`, to continue.", default="", example="Hello"),
    Field("suffix", STRING, "What follows the answer, for models that fill in the middle.", default=""),
    Field("system", STRING, "Instructions.", default="", example="Be brief."),
    Field("raw", BOOLEAN, "The prompt is used as it is, without the chat template.", default=False),
    *COMMON,
    foreign=REQUEST,
)
EMBED = Object(
    parameters.MODEL,
    required("input", texts(MAX_INPUTS, shows_length=True), "The texts.", ["Hello", "Good morning"]),
    Field("dimensions", integer(1), "Keep so many numbers of each vector.", example=64),
    foreign=EMBEDDING,
)
EMBED_PROMPT = Object(parameters.MODEL, required("prompt", STRING, "The text.", "Hello"), foreign=EMBEDDING)
VECTOR = ValueType(ANYTHING.read, {"type": "array", "items": {"type": "number"}})
CREATED = required("created_at", STRING, "When it was made.", "2026-11-30T12:00:00Z")
OF_MODEL = required("model", STRING, "The name of the model, as it was asked for.", "verbatim-demo")
DONE = required("done", BOOLEAN, "Whether this is the last line.", True)
SAID = {"role": "assistant", "content": "Hello!"}
SCHEMAS = {
    "OllamaError": answer(
        required("error", STRING, "What is wrong.", "top_k must be at least 1"),
        required("param", NULLABLE_STRING, "The field at fault.", "options.top_k"),
        required("code", NULLABLE_STRING, "The error in a word.", "integer_below_min_value"),
    ),
    "OllamaChat": answer(OF_MODEL, CREATED, required("message", OBJECT, "The answer, or a piece.", SAID), DONE),
    "OllamaText": answer(OF_MODEL, CREATED, required("response", STRING, "The answer, or a piece.", "Hello!"), DONE),
    "OllamaVectors": answer(OF_MODEL, required("embeddings", array(VECTOR), "A vector for each text.", [[0.6, 0.8]])),
    "OllamaVector": answer(required("embedding", VECTOR, "The vector.", [0.6, 0.8])),
}


class OllamaAdapter(Adapter):
    """What is common to them."""

    schemas, error = SCHEMAS, "OllamaError"
    is_resumable = False
    prefix = "/api/"
    media_type, heartbeat = MEDIA_TYPE, b""
    write, end = staticmethod(line), b""

    def shape_error(self, body: dict) -> dict:
        """The body of an error as Ollama writes it."""
        return shape(body)


class OllamaChatAdapter(OllamaAdapter):
    """Chats."""

    name, path, prompt_field = "ollama_chat", "/api/chat", "messages"
    summary = "Answer a chat, in Ollama's form"
    body, answer, pages = CHAT, "OllamaChat", about.PAGES
    examples = {"Streamed": HELLO, "Whole": HELLO | {"stream": False}}  # noqa: RUF012
    schemas = SCHEMAS | about.SCHEMAS

    def read(self, body: Any, model: ServedModel) -> Builder:
        """The builder of the lines; one line where there is nothing to answer."""
        fields = CHAT.read(body)
        name, messages = fields["model"] or model.model_id, to_openai(fields["messages"])
        wanted = take_common(fields, model.config.context_size) | {"model": model.model_id, "messages": messages}
        is_stream = fields["stream"]
        if tools := fields["tools"]:
            wanted["tools"] = [{"type": "function"} | tool for tool in tools]
        fields.done()
        if not messages:
            return LoadedBuilder(name, {"message": {"role": "assistant", "content": ""}}, is_stream=is_stream)
        last = messages[-1]
        if last["role"] == "assistant" and "tool_calls" not in last:
            wanted["continue_final_message"] = True
        with own_names():
            return LineBuilder(name, read_chat(wanted, model), is_chat=True, is_stream=is_stream)


class OllamaGenerateAdapter(OllamaAdapter):
    """Answers to a prompt, by way of the chat template unless it is `raw`."""

    name, path, prompt_field = "ollama_generate", "/api/generate", "prompt"
    summary = "Answer a prompt, in Ollama's form"
    body, answer = GENERATE, "OllamaText"
    examples = {"Streamed": WORD, "Whole": WORD | {"stream": False}}  # noqa: RUF012

    def read(self, body: Any, model: ServedModel) -> Builder:
        """The builder of the lines; one line where there is no prompt."""
        fields = GENERATE.read(body)
        name, prompt, is_stream = fields["model"] or model.model_id, fields["prompt"], fields["stream"]
        wanted = take_common(fields, model.config.context_size) | {"model": model.model_id}
        suffix, system, is_raw = fields["suffix"], fields["system"], fields["raw"]
        fields.done()
        if not (prompt or suffix):
            return LoadedBuilder(name, {"response": ""}, is_stream=is_stream)
        with own_names():
            if is_raw or suffix or model.template is None:
                inner: Any = read_completion(wanted | {"prompt": prompt, "suffix": suffix}, model)
            else:
                messages = [{"role": "system", "content": system}] if system else []
                inner = read_chat(wanted | {"messages": [*messages, {"role": "user", "content": prompt}]}, model)
        return LineBuilder(name, inner, is_chat=False, is_stream=is_stream)


class OllamaEmbedAdapter(OllamaAdapter):
    """Vectors of texts."""

    name, path, prompt_field = "ollama_embed", "/api/embed", "input"
    summary = "Texts to vectors, in Ollama's form"
    body, answer = EMBED, "OllamaVectors"
    examples = {"Two texts": {"input": ["Hello", "Good morning"]}}  # noqa: RUF012
    makes_text = streams = False

    def read(self, body: Any, model: ServedModel) -> Builder:
        """The builder of the vectors."""
        fields = EMBED.read(body)
        inputs = fields["input"]
        dimensions = fields.read_as("dimensions", integer(1, model.config.hidden_size))
        return _vectors(fields, inputs, model, dimensions, is_single=False)


class OllamaEmbeddingAdapter(OllamaAdapter):
    """The vector of a text, as older clients ask for it."""

    name, path, prompt_field = "ollama_embeddings", "/api/embeddings", "prompt"
    summary = "A text to a vector, in Ollama's older form"
    body, answer = EMBED_PROMPT, "OllamaVector"
    examples = {"A text": {"prompt": "Hello"}}  # noqa: RUF012
    makes_text = streams = False

    def read(self, body: Any, model: ServedModel) -> Builder:
        """The builder of the vector."""
        fields = EMBED_PROMPT.read(body)
        return _vectors(fields, [("prompt", fields["prompt"])], model, None, is_single=True)


class OllamaVectorBuilder(VectorBuilder):
    """Vectors in Ollama's form: several, or the only one."""

    def __init__(
        self, name: str, model: ServedModel, requests: list[Request], dimensions: int | None, *, is_single: bool
    ):
        super().__init__(model, requests, dimensions, is_base64=False)
        self._name, self._is_single, self._start = name, is_single, time.perf_counter_ns()

    def whole(self) -> dict:
        """The answer, vectors in the order of their inputs."""
        vectors = [self.written(vector) for vector in self.vectors()]
        if self._is_single:
            return {"embedding": vectors[0]}
        spent = time.perf_counter_ns() - self._start
        counts = {"total_duration": spent, "load_duration": 0, "prompt_eval_count": self.usage()["prompt_tokens"]}
        return {"model": self._name, "embeddings": vectors} | counts


def _vectors(
    fields: Fields, inputs: list[tuple[str, Any]], model: ServedModel, dimensions: int | None, *, is_single: bool
) -> OllamaVectorBuilder:
    name = fields["model"] or model.model_id
    fields.done()
    return OllamaVectorBuilder(name, model, read_inputs(inputs, model), dimensions, is_single=is_single)
