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
ANY_STRINGS = {"anyOf": [STRING, array(STRING, 4)]}
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
    "logit_bias": {"type": "object", "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100}},
    "stop": ANY_STRINGS,
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
    "guided_json": {"anyOf": [OBJECT, STRING]},
    "guided_regex": STRING,
    "guided_choice": array(STRING, 1024) | {"minItems": 1},
    "guided_grammar": STRING,
    "structured_outputs": OBJECT,
}
DEBUG = closed(
    (),
    ignore_eos=BOOLEAN,
    special_request=one_of("query_engine_metrics"),
    grammar_execution_mode={"const": "constraint"},
    pinned_system_prompt={"const": False},
)
CHAT = SHARED | {
    "messages": array(reference("Message")) | {"minItems": 1},
    "max_tokens": integer(1),
    "max_completion_tokens": integer(1),
    "logprobs": BOOLEAN,
    "top_logprobs": integer(0, 20),
    "tools": array(OBJECT, 128),
    "tool_choice": {"anyOf": [one_of("auto", "none", "required"), OBJECT]},
    "parallel_tool_calls": BOOLEAN,
    "response_format": OBJECT,
    "prediction": closed(("type", "content"), type={"const": "content"}, content={"anyOf": [STRING, array(OBJECT)]}),
    "prompt_logprobs": integer(0, 20),
    "debug_config": DEBUG,
}
PROMPT = {"anyOf": [STRING, array(STRING, 128), array(TOKEN_ID), array(array(TOKEN_ID), 128)]}
COMPLETION = SHARED | {
    "prompt": PROMPT,
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
    "text": OBJECT,
    "tools": array(OBJECT, 128),
    "tool_choice": {"anyOf": [one_of("auto", "none", "required"), OBJECT]},
    "parallel_tool_calls": BOOLEAN,
    "store": BOOLEAN,
    "stream_options": closed((), include_obfuscation=BOOLEAN),
    "truncation": {"const": "disabled"},
    "background": {"const": False},
}
EMBEDDING = {
    "model": STRING | {"minLength": 1},
    "input": {"anyOf": [STRING, array(STRING, 2048), array(TOKEN_ID), array(array(TOKEN_ID), 2048)]},
    "encoding_format": one_of("float", "base64"),
    "dimensions": integer(1),
    "pooling": one_of("mean", "last"),
    "user": STRING,
    "prompt_cache_key": STRING,
}
TOKENIZE = {
    "model": STRING,
    "prompt": STRING,
    "messages": array(reference("Message")),
    "tools": array(OBJECT, 128),
    "add_special_tokens": BOOLEAN,
    "add_generation_prompt": {"const": True},
    "continue_final_message": {"const": False},
    "return_token_strs": BOOLEAN,
}
