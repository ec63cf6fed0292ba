"""Content blocks as Anthropic writes them: each is read as the text, call, result or reasoning that it stands for.

Documents and search results are text, too, if they hold text. Images, PDFs and files are refused by name. What
Anthropic's own tools wrote (`server_tool_use`, `web_search_tool_result`, ...) is left out: no template has a place for
it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from verbatim.reference.records.errors import RequestError, UnsupportedError
from verbatim.server.api import policy
from verbatim.server.api.anthropic.foreign_fields import BLOCK
from verbatim.server.api.fields import Field, Fields, Object, required
from verbatim.server.api.value_types import (
    BOOLEAN,
    OBJECT,
    STRING,
    ValueType,
    of_type,
    one_of,
    reference,
    type_error,
)

TEXT, CALL, RESULT, REASONING, NOTHING = "text", "call", "result", "reasoning", "nothing"
UNREADABLE = ("image", "audio", "video", "container_upload")
OF_TOOLS = {"server_tool_use", "mcp_tool_use", "mcp_tool_result", "tool_search_tool_result", "fallback"}
OF_TOOL_RESULT = "_tool_result"  # how the types of all results of Anthropic's own tools end


class Block(NamedTuple):
    """What a block stands for: its `type` is one of the five above; `value` is a text, or the dictionary of a call."""

    type: str
    value: Any
    path: str


def block(type_: str, *fields: Field) -> Object:
    """The declaration of a block."""
    return Object(required("type", one_of(type_), "The type of the block."), *fields, foreign=BLOCK)


def _content(*types: str) -> ValueType:
    """Text, or blocks of these types, which are read as their joined text."""

    def read(value: Any, path: str) -> str:
        return join(read_blocks(value, path, types))

    return ValueType(read, content_schema(*types))


def content_schema(*types: str) -> dict:
    """The schema of text or blocks."""
    blocks = [reference(schema_name(type_)) for type_ in types]
    items = blocks[0] if len(blocks) == 1 else {"anyOf": blocks}
    return {"anyOf": [STRING.schema, {"type": "array", "items": items}]}


def schema_name(type_: str) -> str:
    """The name of a block's schema."""
    return "".join(word.capitalize() for word in type_.split("_")) + "Block"


def schemas() -> dict[str, dict]:
    """The schemas of all blocks and of the sources of documents, by name."""
    found = {schema_name(type_): declared.schema for type_, (declared, _) in BLOCKS.items()}
    return found | {"TextSource": TEXT_SOURCE.schema, "ContentSource": CONTENT_SOURCE.schema}


def join(blocks: list[Block]) -> str:
    """The texts of blocks, one a line."""
    return "\n".join(each.value for each in blocks if each.type == TEXT)


def read_blocks(value: Any, path: str, types: tuple[str, ...]) -> list[Block]:
    """Text, or an array of blocks of these types."""
    if type(value) is str:
        return [Block(TEXT, value, path)]
    if type(value) is not list:
        raise type_error(path, value, "a string or an array of content blocks")
    return [_read_block(item, f"{path}[{index}]", types) for index, item in enumerate(value)]


def _read_block(value: Any, path: str, types: tuple[str, ...]) -> Block:
    where = f"{path}.type"
    if (type_ := of_type(path, value, dict).get("type")) is None:
        raise RequestError(f"Missing required parameter: {where}", field=where, code="missing_required_parameter")
    if of_type(where, type_, str) in types:
        declared, read = BLOCKS[type_]
        fields = declared.read(value, path)
        fields["type"]
        found = read(fields)
        fields.done()
        return found
    if type_ in UNREADABLE:
        raise UnsupportedError(f"{where}: this model reads text only, and no {type_}", field=where)
    if "tool_use" in types and (type_ in OF_TOOLS or type_.endswith(OF_TOOL_RESULT)):
        policy.note_without_effect(path)
        return Block(NOTHING, None, path)
    raise RequestError(f"{where} must be one of {', '.join(types)} here", field=where, code="invalid_value")


def _read_text(fields: Fields) -> Block:
    return Block(TEXT, fields["text"], fields.path)


def _read_source(value: Any, path: str) -> str:
    """The text of a document."""
    type_ = of_type(path, value, dict).get("type")
    if type_ not in (None, *SOURCES):
        raise UnsupportedError(f"{path}.type: only documents of text can be read", field=f"{path}.type")
    fields = SOURCES[type_ or "text"].read(value, path)
    fields["type"]
    text = fields["data" if type_ == "text" else "content"]
    fields.done()
    return text


def _read_document(fields: Fields) -> Block:
    """Its title and what is said about it stand before its text."""
    parts = (fields["title"], fields["context"], fields["source"])
    return Block(TEXT, "\n".join(part for part in parts if part), fields.path)


def _read_search_result(fields: Fields) -> Block:
    parts = (fields["title"], fields["source"], fields["content"])
    return Block(TEXT, "\n".join(part for part in parts if part), fields.path)


def _read_call(fields: Fields) -> Block:
    function = {"name": fields["name"], "arguments": fields["input"]}
    return Block(CALL, {"id": fields["id"], "type": "function", "function": function}, fields.path)


def _read_result(fields: Fields) -> Block:
    """A failure is told in words, as chat templates have no other place for it."""
    content = ("Error: " if fields["is_error"] else "") + fields["content"]
    return Block(RESULT, {"role": "tool", "content": content, "tool_call_id": fields["tool_use_id"]}, fields.path)


def _read_thinking(fields: Fields) -> Block:
    return Block(REASONING, fields["thinking"], fields.path)


def _read_reference(fields: Fields) -> Block:
    return Block(TEXT, fields["tool_name"], fields.path)


def _read_summary(fields: Fields) -> Block:
    return Block(TEXT, fields["content"], fields.path)


def _read_nothing(fields: Fields) -> Block:
    return Block(NOTHING, None, fields.path)


TITLE = Field("title", STRING, "Stands before the text.", example="Cities")
BLOCKS: dict[str, tuple[Object, Callable[[Fields], Block]]] = {
    "text": (block("text", required("text", STRING, "The text.", "Hello")), _read_text),
    "thinking": (
        block(
            "thinking",
            required("thinking", STRING, "The model's reasoning, for templates that show it.", "Hm."),
            Field("signature", STRING, "Ignored.", example="c2ln"),
        ),
        _read_thinking,
    ),
    "redacted_thinking": (
        block("redacted_thinking", Field("data", STRING, "Ignored.", example="ZGF0YQ==")),
        _read_nothing,
    ),
    "compaction": (block("compaction", Field("content", STRING, "A summary.", default="")), _read_summary),
    "tool_reference": (
        block("tool_reference", required("tool_name", STRING, "The name of a tool that was found.", "get_weather")),
        _read_reference,
    ),
    "tool_use": (
        block(
            "tool_use",
            required("id", STRING, "What the result names as `tool_use_id`.", "toolu_1"),
            required("name", STRING, "The tool that was called.", "get_weather"),
            required("input", OBJECT, "What it was called with.", {"city": "Paris"}),
        ),
        _read_call,
    ),
}  # fmt: skip
TEXT_SOURCE = Object(
    required("type", one_of("text"), "The type of the source."),
    Field("media_type", STRING, "Ignored.", example="text/plain"),
    required("data", STRING, "The text.", "Paris is a city."),
)
CONTENT_SOURCE = Object(
    required("type", one_of("content"), "The type of the source."),
    required("content", _content("text"), "The text, or blocks of text.", "Paris is a city."),
)
SOURCES = {"text": TEXT_SOURCE, "content": CONTENT_SOURCE}
SOURCE = ValueType(_read_source, {"anyOf": [reference("TextSource"), reference("ContentSource")]})
BLOCKS["document"] = (
    block(
        "document",
        required("source", SOURCE, "The text of the document.", {"type": "text", "data": "Paris is a city."}),
        TITLE,
        Field("context", STRING, "Stands before the text.", example="From a list of cities."),
    ),
    _read_document,
)
BLOCKS["search_result"] = (
    block(
        "search_result",
        required("source", STRING, "Where it was found.", "https://example.org"),
        TITLE,
        required("content", _content("text"), "Blocks of text.", [{"type": "text", "text": "Paris is a city."}]),
    ),
    _read_search_result,
)
OF_RESULT = ("text", "document", "search_result", "tool_reference")
BLOCKS["tool_result"] = (
    block(
        "tool_result",
        required("tool_use_id", STRING, "The `id` of the call that it answers.", "toolu_1"),
        Field("content", _content(*OF_RESULT), "What the tool gave.", default=""),
        Field("is_error", BOOLEAN, "Whether the tool failed.", default=False),
    ),
    _read_result,
)
OF_SYSTEM = ("text",)
OF_USER = ("text", "tool_result", "document", "search_result")
OF_ASSISTANT = ("text", "tool_use", "thinking", "redacted_thinking", "compaction")
