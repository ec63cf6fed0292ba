"""What each of our endpoints takes, as JSON schemas: closed objects, in which null stands for absence."""

STRING, BOOLEAN, OBJECT = {"type": "string"}, {"type": "boolean"}, {"type": "object"}


def number(low: float, high: float, default: float) -> dict:
    """A number within bounds."""
    return {"type": "number", "minimum": low, "maximum": high, "default": default}


def integer(low: int, high: int | None = None, **more) -> dict:
    """An integer within bounds."""
    return {"type": "integer", "minimum": low} | ({} if high is None else {"maximum": high}) | more


def array(items: dict, most: int | None = None) -> dict:
    """An array of at most so many items."""
    return {"type": "array", "items": items} | ({} if most is None else {"maxItems": most})


def one_of(*values: str) -> dict:
    """A word out of a few."""
    return {"type": "string", "enum": list(values)}


def closed(required: tuple[str, ...], **properties: dict) -> dict:
    """An object without other fields; null stands for absence everywhere but in what is required."""
    rest = {name: schema if name in required else optional(schema) for name, schema in properties.items()}
    return {"type": "object", "required": list(required), "properties": rest, "additionalProperties": False}


def optional(schema: dict) -> dict:
    """The same, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def reference(name: str) -> dict:
    """A schema by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


TOKEN_ID = integer(0)
ANYTHING = {}
SOME_TEXT = STRING | {"minLength": 1}
NAME = STRING | {"pattern": "^[A-Za-z0-9_-]{1,64}$"}
SOME = {"minItems": 1}

TEXT_PART = closed(("type", "text"), type={"const": "text"}, text=STRING, prompt_cache_breakpoint=ANYTHING)
REFUSAL_PART = closed(("type", "refusal"), type={"const": "refusal"}, refusal=STRING, prompt_cache_breakpoint=ANYTHING)
CONTENT = {"anyOf": [STRING, array(TEXT_PART) | SOME]}
CALL = closed(
    ("id", "function"),
    id=STRING,
    type={"const": "function"},
    index=ANYTHING,
    function=closed(("name", "arguments"), name=STRING, arguments=STRING),
)
MESSAGE = {
    "anyOf": [
        closed(("role", "content"), role=one_of("system", "developer", "user"), content=CONTENT, name=STRING),
        closed(
            ("role",),
            role={"const": "assistant"},
            content={"anyOf": [STRING, array({"anyOf": [TEXT_PART, REFUSAL_PART]}) | SOME]},
            refusal=STRING,
            reasoning_content=STRING,
            tool_calls=array(CALL),
            name=STRING,
            annotations=array(ANYTHING),
            audio={"type": "null"},
            function_call={"type": "null"},
        ),
        closed(
            ("role", "content", "tool_call_id"),
            role={"const": "tool"},
            content=CONTENT,
            tool_call_id=STRING,
            name=STRING,
        ),
    ]
}
FUNCTION = {"name": NAME, "description": STRING, "parameters": OBJECT, "strict": BOOLEAN}
TOOL = closed(("type", "function"), type={"const": "function"}, function=closed(("name",), **FUNCTION))
FLAT_TOOL = closed(("type", "name"), type={"const": "function"}, **FUNCTION)
SCHEMA_FORMAT = {"name": NAME, "description": STRING, "schema": OBJECT, "strict": BOOLEAN}
PLAIN_FORMAT = closed(("type",), type=one_of("text", "json_object"))
RESPONSE_FORMAT = {
    "anyOf": [
        PLAIN_FORMAT,
        closed(("type", "json_schema"), type={"const": "json_schema"}, json_schema=closed(("name",), **SCHEMA_FORMAT)),
    ]
}
FLAT_FORMAT = {"anyOf": [PLAIN_FORMAT, closed(("type", "name"), type={"const": "json_schema"}, **SCHEMA_FORMAT)]}
GUIDED = {
    "json": {"anyOf": [OBJECT, STRING]},
    "regex": STRING,
    "choice": array(STRING, 1024) | SOME,
    "grammar": STRING,
}

STOP = {"anyOf": [SOME_TEXT, array(SOME_TEXT, 4)]}
SHARED = {
    "model": STRING | {"minLength": 1},
    "n": integer(1, 128, default=1),
    "seed": integer(-(1 << 63), (1 << 64) - 1),
    "temperature": number(0, 2, 1),
    "top_p": number(0, 1, 1),
    "top_k": integer(1),
    "min_p": number(0, 1, 0),
    "frequency_penalty": number(-2, 2, 0),
    "presence_penalty": number(-2, 2, 0),
    "repetition_penalty": number(0.01, 100, 1),
    "logit_bias": {
        "type": "object",
        "propertyNames": {"pattern": "^[0-9]{1,12}$"},
        "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
    },
    "stop": STOP,
    "stop_token_ids": array(TOKEN_ID),
    "include_stop_str_in_output": BOOLEAN,
    "ignore_eos": BOOLEAN,
    "min_tokens": integer(0, default=0),
    "stream": BOOLEAN,
    "stream_options": closed((), include_usage=BOOLEAN, include_obfuscation=BOOLEAN),
    "user": STRING,
    "safety_identifier": STRING,
    "metadata": {"type": "object", "additionalProperties": STRING, "maxProperties": 16},
    "prompt_cache_key": STRING,
    "store": {"const": False},
    "service_tier": one_of("auto", "default"),
    "structured_outputs": closed((), **GUIDED, json_object=BOOLEAN),
    **{f"guided_{name}": schema for name, schema in GUIDED.items()},
}
DEBUG = closed(
    (),
    ignore_eos=BOOLEAN,
    special_request=one_of("query_engine_metrics"),
    grammar_execution_mode={"const": "constraint"},
    pinned_system_prompt={"const": False},
)
CHAT = SHARED | {
    "messages": array(reference("Message")) | SOME,
    "max_tokens": integer(1),
    "max_completion_tokens": integer(1),
    "logprobs": BOOLEAN,
    "top_logprobs": integer(0, 20),
    "tools": array(TOOL, 128),
    "tool_choice": {"anyOf": [one_of("auto", "none", "required"), OBJECT]},
    "parallel_tool_calls": BOOLEAN,
    "response_format": RESPONSE_FORMAT,
    "prediction": closed(("type", "content"), type={"const": "content"}, content=CONTENT),
    "prompt_logprobs": integer(0, 20),
    "debug_config": DEBUG,
}
SOME_IDS = array(TOKEN_ID) | SOME


def inputs(most: int) -> dict:
    """A text, or token ids, or up to so many of either."""
    return {"anyOf": [SOME_TEXT, array(SOME_TEXT, most) | SOME, SOME_IDS, array(SOME_IDS, most) | SOME]}


COMPLETION = SHARED | {
    "prompt": inputs(128),
    "max_tokens": integer(0, default=16),
    "echo": BOOLEAN,
    "logprobs": integer(0, 5),
    "best_of": integer(1, 20),
    "suffix": {"const": ""},
    "debug_config": DEBUG,
}
RESPONSE = {name: schema for name, schema in SHARED.items() if name != "n"} | {
    "input": {"anyOf": [STRING, array(OBJECT)]},
    "instructions": STRING,
    "previous_response_id": STRING,
    "max_output_tokens": integer(16),
    "include": array(one_of("message.output_text.logprobs", "reasoning.encrypted_content")),
    "top_logprobs": integer(0, 20),
    "text": closed((), format=FLAT_FORMAT, verbosity={"const": "medium"}),
    "tools": array(FLAT_TOOL, 128),
    "tool_choice": {"anyOf": [one_of("auto", "none", "required"), OBJECT]},
    "parallel_tool_calls": BOOLEAN,
    "store": BOOLEAN,
    "stream_options": closed((), include_obfuscation=BOOLEAN),
    "truncation": {"const": "disabled"},
    "background": {"const": False},
}
EMBEDDING = {
    "model": STRING | {"minLength": 1},
    "input": inputs(2048),
    "encoding_format": one_of("float", "base64"),
    "dimensions": integer(1),
    "pooling": one_of("mean", "last"),
    "user": STRING,
    "prompt_cache_key": STRING,
}
TOKENIZE = {
    "model": STRING,
    "prompt": STRING,
    "messages": array(reference("Message")) | SOME,
    "tools": array(TOOL, 128),
    "add_special_tokens": BOOLEAN,
    "add_generation_prompt": {"const": True},
    "continue_final_message": {"const": False},
    "return_token_strs": BOOLEAN,
}
EITHER = {  # a body of that kind has one of these
    "anyOf": [
        {"required": ["prompt"], "properties": {"prompt": STRING}},
        {"required": ["messages"], "properties": {"messages": {"type": "array"}}},
    ]
}
