"""`POST /v1/chat/completions`: a conversation in, an assistant's message out, perhaps with tool calls.

What OpenAI knows and this server does not have is refused by name; see `REFUSED` with the values that change
nothing. Text between the markers of a tool call is parsed only if the request has tools and may call them.
"""

from verbatim.reference.dialects import CallArguments, CallStart, DialectParser, TextDelta, calls_or_json
from verbatim.reference.records.errors import RequestError, UnsupportedError
from verbatim.reference.records.grammar_text import Grammar, GrammarKind
from verbatim.reference.records.request import MAX_LOGPROBS, FinishReason, Output, Request
from verbatim.server.api import parameters
from verbatim.server.api.answer import Answer, Streaming, new_id
from verbatim.server.api.debug_config import take_debug_config
from verbatim.server.api.fields import Fields
from verbatim.server.api.guided import only_one, take_guided
from verbatim.server.api.logprobs import chat_entry
from verbatim.server.api.messages import read_content, take_messages
from verbatim.server.api.response_format import take_response_format
from verbatim.server.api.tools import ToolUse, take_tools
from verbatim.server.models.served import ServedModel

OBJECTS = ("chat.completion", "chat.completion.chunk")
REFUSED = {
    "audio": (),
    "function_call": ("none",),
    "functions": ([],),
    "modalities": (["text"],),
    "moderation": (),
    "prompt_cache_options": (),
    "prompt_cache_retention": ("in_memory",),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "web_search_options": (),
}


def read_chat(body: object, model: ServedModel) -> Answer:
    """The answer to be filled, with the engine's request in it. RequestError for anything that cannot be done."""
    fields = Fields(body)
    messages = take_messages(fields)
    parameters.take_model(fields)
    tools = take_tools(fields)
    grammar = choose_grammar(take_response_format(fields, messages), take_guided(fields), tools, model)
    wants_logprobs, num_top = _take_logprobs(fields)
    vocab_size, num_choices = model.config.vocab_size, parameters.take_choices(fields)
    sampling = parameters.take_sampling(fields, vocab_size, num_top)
    stopping = parameters.take_stopping(fields, vocab_size, _take_max_tokens(fields))
    streaming = parameters.take_streaming(fields)
    debug = take_debug_config(fields, streaming)
    prompt_logprobs = _take_prompt_logprobs(fields, streaming)
    parameters.take_harmless(fields)
    _take_prediction(fields)
    for name, neutral in REFUSED.items():
        fields.refuse(name, *neutral)
    salt = parameters.take_cache_salt(fields)
    fields.done()
    answer_id, prompt_ids = new_id("chatcmpl"), encode_chat(messages, tools, model, "messages")
    request = Request(
        request_id=answer_id, prompt_ids=prompt_ids, sampling=sampling, stopping=debug.apply(stopping), n=num_choices,
        grammar=grammar, cache_salt=salt, visible_ids=visible_ids(tools, model), prompt_logprobs=prompt_logprobs,
    )  # fmt: skip
    answer = ChatAnswer(
        model=model, answer_id=answer_id, requests=() if debug.wants_metrics else (request,), objects=OBJECTS,
        streaming=streaming, wants_metrics=debug.wants_metrics,
    )  # fmt: skip
    for index in range(num_choices):
        parser = model.dialect.parser(tools.names) if tools.names else None
        answer.choices[answer_id, index] = ChatChoice(index, answer_id, parser, wants_logprobs)
    return answer


def choose_grammar(
    response_format: Grammar | None, guided: Grammar | None, tools: ToolUse, model: ServedModel
) -> Grammar | None:
    """What the answer must fit: a schema binds text, tools bind calls; with both it is calls or text of the schema."""
    content = only_one(response_format, guided)
    if not tools.callable_tools:
        return content
    if content is not None and content.kind is not GrammarKind.JSON_SCHEMA:
        raise UnsupportedError(f"{content.field} together with tools is not supported", field=content.field)
    is_forced = tools.is_forced or content is not None
    calls = model.dialect.grammar(
        list(tools.callable_tools), model.mark_ids, is_forced=is_forced, is_parallel=tools.is_parallel
    )
    return calls if content is None or tools.is_forced else calls_or_json(calls, content)


def visible_ids(tools: ToolUse, model: ServedModel) -> tuple[int, ...]:
    """A parser has to see its marks, also where they are control tokens."""
    return tuple(sorted(model.mark_ids.values())) if tools.names else ()


def encode_chat(messages: list[dict], tools: ToolUse, model: ServedModel, field: str) -> tuple[int, ...]:
    """The prompt of a conversation, which came in that field."""
    if model.template is None:
        raise RequestError("This model has no chat template; use /v1/completions.", field=field)
    prompt_ids = tuple(model.tokenizer.encode_pieces(model.template.render(messages, list(tools.tools) or None)))
    model.check_prompt(prompt_ids, field)
    return prompt_ids


def _take_logprobs(fields: Fields) -> tuple[bool, int | None]:
    wants_logprobs = fields.typed("logprobs", bool, False)
    num_top = fields.integer("top_logprobs", 0, MAX_LOGPROBS)
    if num_top is not None and not wants_logprobs:
        raise RequestError("top_logprobs is only allowed when logprobs is true", field="top_logprobs")
    return wants_logprobs, (num_top or 0) if wants_logprobs else None


def _take_prompt_logprobs(fields: Fields, streaming: Streaming) -> int | None:
    """An extension: how many alternatives to report beside each token of the prompt."""
    num_top = fields.integer("prompt_logprobs", 0, MAX_LOGPROBS)
    if num_top is not None and streaming.is_stream:
        raise RequestError("prompt_logprobs is only allowed when stream is false", field="prompt_logprobs")
    return num_top


def _take_prediction(fields: Fields) -> None:
    """What the answer is likely to be: it may make an answer faster, never another one, and here does neither."""
    if fields.has("prediction"):
        prediction = Fields(fields.take("prediction"), "prediction")
        prediction.one_of("type", ("content",)) or prediction.required("type")
        read_content(prediction.required("content"), "prediction.content")
        prediction.done()


def _take_max_tokens(fields: Fields) -> int | None:
    if fields.has("max_tokens") and fields.has("max_completion_tokens"):
        message = "max_tokens and max_completion_tokens mean the same; give one of them"
        raise RequestError(message, field="max_tokens", code="invalid_parameter_combination")
    name = "max_tokens" if fields.has("max_tokens") else "max_completion_tokens"
    return fields.integer(name, 1)


class ChatAnswer(Answer):
    """A chat's answer; whole ones may hold the log-probabilities of the prompt's tokens."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self._scores: list[dict] = []

    def take(self, output: Output) -> list[dict]:
        """The chunks that this output adds."""
        if output.prompt_logprobs:
            self._scores += map(chat_entry, output.prompt_logprobs)
        return super().take(output)

    def whole(self) -> dict:
        """The whole answer. Nothing comes before the prompt's first token, so that one has no probability."""
        wants_scores = any(request.prompt_logprobs is not None for request in self.requests)
        return super().whole() | ({"prompt_logprobs": [None, *self._scores]} if wants_scores else {})


class ChatChoice:
    """One assistant message, built from outputs; gives each part as a streamed `choices` item."""

    def __init__(self, index: int, answer_id: str, parser: DialectParser | None, wants_logprobs: bool):
        self.index = index
        self.call_prefix = f"call_{answer_id.rpartition('-')[2][:20]}_{index}_"
        self.parser = parser
        self.logprobs: list[dict] | None = [] if wants_logprobs else None
        self.has_begun = False
        self.content: list[str] = []
        self.calls: list[dict] = []
        self.finish_reason: str | None = None

    def take(self, output: Output) -> list[dict]:
        """The role first, then text and calls as they come, at last an empty item with the finish reason."""
        deltas = self._deltas(output)
        if self.has_begun and self.logprobs is None and not output.finish_reason:  # as nearly always
            return [self._item(delta) for delta in deltas]
        items = [] if self.has_begun else [self._item({"role": "assistant", "content": "", "refusal": None})]
        self.has_begun = True
        entries = [chat_entry(entry) for entry in output.logprobs] if self.logprobs is not None else []
        if entries:
            self.logprobs += entries
            deltas = deltas or [{"content": ""}]
        for delta in deltas:
            items.append(self._item(delta, entries))
            entries = []
        if output.finish_reason:
            self.finish_reason = self._finish_reason(output)
            items.append(self._item({}))
        return items

    def whole(self) -> dict:
        """The finished choice: content is null when there are only calls."""
        content = "".join(self.content)
        message = {"role": "assistant", "content": None if self.calls and not content else content, "refusal": None}
        if self.calls:
            message["tool_calls"] = self.calls
        item = {"index": self.index, "message": message, "finish_reason": self.finish_reason}
        return item | {"logprobs": self._logprobs(self.logprobs)}

    def _item(self, delta: dict, entries: list[dict] | None = None) -> dict:
        logprobs = self._logprobs(entries) if entries else None
        return {"index": self.index, "delta": delta, "logprobs": logprobs, "finish_reason": self.finish_reason}

    @staticmethod
    def _logprobs(entries: list[dict] | None) -> dict | None:
        return None if entries is None else {"content": entries, "refusal": None}

    def _deltas(self, output: Output) -> list[dict]:
        if self.parser is None:
            return [self._say(output.text)] if output.text else []
        parsed = self.parser.push(output.text) + (self.parser.finish() if output.finish_reason else [])
        return [self._apply(delta) for delta in parsed]

    def _say(self, text: str) -> dict:
        self.content.append(text)
        return {"content": text}

    def _apply(self, delta) -> dict:
        match delta:
            case TextDelta(text=text):
                return self._say(text)
            case CallStart(index=index, name=name):
                call = {"id": f"{self.call_prefix}{index}", "type": "function"}
                self.calls.append(call | {"function": {"name": name, "arguments": ""}})
                return {"tool_calls": [{"index": index} | call | {"function": {"name": name, "arguments": ""}}]}
            case CallArguments(index=index, text=text):
                self.calls[index]["function"]["arguments"] += text
                return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}

    def _finish_reason(self, output: Output) -> str:
        has_called = self.calls and output.finish_reason is FinishReason.STOP
        return "tool_calls" if has_called else str(output.finish_reason)
