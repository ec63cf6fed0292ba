"""`POST /v1/chat/completions`: a conversation in, an assistant's message out, perhaps with tool calls.

What OpenAI knows and this server does not have is refused by name; see `REFUSED` with the values that change
nothing. Text between the markers of a tool call is parsed only if the request has tools and may call them.
"""

from reference.dialects import CallArguments, CallStart, DialectParser, TextDelta
from reference.errors import RequestError, UnsupportedError
from reference.grammar_text import Grammar
from reference.request import FinishReason, Output, Request
from server.protocol import parameters
from server.protocol.answer import Answer, new_id
from server.protocol.fields import Fields
from server.protocol.logprobs import chat_entry
from server.protocol.messages import take_messages
from server.protocol.response_format import take_response_format
from server.protocol.tools import ToolUse, take_tools
from server.served import ServedModel

OBJECTS = ("chat.completion", "chat.completion.chunk")
MAX_TOP_LOGPROBS = 20
REFUSED = {
    "audio": (),
    "function_call": ("none",),
    "functions": ([],),
    "modalities": (["text"],),
    "moderation": (),
    "prediction": (),
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
    model.check_name(parameters.take_model(fields))
    tools = take_tools(fields)
    grammar = _choose_grammar(take_response_format(fields, messages), tools, model)
    wants_logprobs, num_top = _take_logprobs(fields)
    vocab_size, num_choices = model.config.vocab_size, parameters.take_choices(fields)
    sampling = parameters.take_sampling(fields, vocab_size, num_top)
    stopping = parameters.take_stopping(fields, vocab_size, _take_max_tokens(fields))
    streaming = parameters.take_streaming(fields)
    parameters.take_harmless(fields)
    for name, neutral in REFUSED.items():
        fields.refuse(name, *neutral)
    salt = parameters.take_cache_salt(fields)
    fields.done()
    answer_id, prompt_ids = new_id("chatcmpl"), _encode(messages, tools, model)
    request = Request(
        request_id=answer_id, prompt_ids=prompt_ids, sampling=sampling, stopping=stopping, n=num_choices,
        grammar=grammar, cache_salt=salt, visible_ids=_visible_ids(tools, model),
    )  # fmt: skip
    answer = Answer(model=model, answer_id=answer_id, requests=(request,), objects=OBJECTS, streaming=streaming)
    for index in range(num_choices):
        parser = model.dialect.parser(tools.names) if tools.names else None
        answer.choices[answer_id, index] = ChatChoice(index, answer_id, parser, wants_logprobs)
    return answer


def _choose_grammar(response_format: Grammar | None, tools: ToolUse, model: ServedModel) -> Grammar | None:
    """What the answer must fit: a schema binds text, tools bind calls; both at once has no meaning here."""
    if not tools.callable_tools:
        return response_format
    if response_format is not None:
        raise UnsupportedError("response_format together with tools is not supported", field="response_format")
    return model.dialect.grammar(
        list(tools.callable_tools), model.mark_ids, is_forced=tools.is_forced, is_parallel=tools.is_parallel
    )


def _visible_ids(tools: ToolUse, model: ServedModel) -> tuple[int, ...]:
    """A parser has to see its marks, also where they are control tokens."""
    return tuple(sorted(model.mark_ids.values())) if tools.names else ()


def _encode(messages: list[dict], tools: ToolUse, model: ServedModel) -> tuple[int, ...]:
    if model.template is None:
        raise RequestError("This model has no chat template; use /v1/completions.", field="messages")
    prompt_ids = tuple(model.tokenizer.encode_pieces(model.template.render(messages, list(tools.tools) or None)))
    model.check_prompt(prompt_ids, "messages")
    return prompt_ids


def _take_logprobs(fields: Fields) -> tuple[bool, int | None]:
    wants_logprobs = fields.typed("logprobs", bool, False)
    num_top = fields.integer("top_logprobs", 0, MAX_TOP_LOGPROBS)
    if num_top is not None and not wants_logprobs:
        raise RequestError("top_logprobs is only allowed when logprobs is true", field="top_logprobs")
    return wants_logprobs, (num_top or 0) if wants_logprobs else None


def _take_max_tokens(fields: Fields) -> int | None:
    if fields.has("max_tokens") and fields.has("max_completion_tokens"):
        message = "max_tokens and max_completion_tokens mean the same; give one of them"
        raise RequestError(message, field="max_tokens", code="invalid_parameter_combination")
    name = "max_tokens" if fields.has("max_tokens") else "max_completion_tokens"
    return fields.integer(name, 1)


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
        items = [] if self.has_begun else [self._item({"role": "assistant", "content": "", "refusal": None})]
        self.has_begun = True
        deltas = [self._apply(delta) for delta in self._parse(output)]
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

    def _parse(self, output: Output) -> list:
        if self.parser is None:
            return [TextDelta(text=output.text)] if output.text else []
        return self.parser.push(output.text) + (self.parser.finish() if output.finish_reason else [])

    def _apply(self, delta) -> dict:
        match delta:
            case TextDelta(text=text):
                self.content.append(text)
                return {"content": text}
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
