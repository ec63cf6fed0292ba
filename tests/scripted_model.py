"""Makes a small model on disk that answers by a script: it calls a tool that it is offered, and then it says a text.

The next token depends on the last one alone: the weights of the only layer are zero, and the head sends each token of
a script to the one after it. Everything else is real: the tokenizer, the template, the engine and the dialect's
parser. The template ends a prompt with the token at which a script begins.
"""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np

from small_models import SMALL, tensor_shapes, write_byte_tokenizer, write_safetensors
from verbatim.reference.text.tokenizers.piece_bytes import BYTE_OF_CHARACTER

HIDDEN = 128
LENGTH = 100.0  # of the head's rows: the next token has nearly all of the probability at any temperature
CHARACTER_OF_BYTE = {byte: character for character, byte in BYTE_OF_CHARACTER.items()}
END, TURN, SAY = "<|im_end|>", "<|im_start|>", "<|say|>"
TEMPLATE = """
{%- set ns = namespace(start=say) %}
{%- for tool in tools or [] %}
    {%- if tool.function.name in starts and messages[-1].role != 'tool' %}
        {%- set ns.start = starts[tool.function.name] %}
    {%- endif %}
    {{- tool | tojson }}
{%- endfor %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
    {%- for call in message.tool_calls or [] %}
        {{- '<tool_call>' + (call.function | tojson) + '</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' + ns.start }}
{%- endif %}
"""


def write_scripted_model(directory: Path, calls: dict[str, dict], text: list[str], **changes) -> Path:
    """A model that calls the first of these tools that a request offers, with these arguments.

    `calls` maps the names of tools to arguments. Without such a tool, and after a tool's answer, it says `text`, whose
    pieces, of two bytes or more, are a token each. `changes` go into config.json. Returns the directory.
    """
    starts = {name: f"<|call {name}|>" for name in calls}
    scripts = [[starts[name], *_pieces_of_call(name, calls[name]), END] for name in calls] + [[SAY, *text, END]]
    pieces = list(dict.fromkeys(piece for script in scripts for piece in script[1:-1]))
    if short := [piece for piece in pieces if len(piece) < 2]:
        raise ValueError(f"{short} are tokens already")
    names = {piece: 256 + index for index, piece in enumerate([*pieces, TURN, END, SAY, *starts.values()])}
    directory.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(directory, pieces, [TURN, END, SAY, *starts.values()])
    template = f"{{%- set starts = {json.dumps(starts)} %}}{{%- set say = {json.dumps(SAY)} %}}{TEMPLATE}"
    (directory / "chat_template.jinja").write_text(template)
    (directory / "tokenizer_config.json").write_text(json.dumps({"eos_token": END}))
    config = SMALL | {
        "architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 16, "hidden_size": HIDDEN,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 256 + len(names),
        "max_position_embeddings": 131072, "bos_token_id": None, "eos_token_id": names[END],
        "tie_word_embeddings": False,
    } | changes  # fmt: skip
    (directory / "config.json").write_text(json.dumps(config))
    follows = _successors([[names[piece] for piece in script] for script in scripts])
    write_safetensors(directory / "model.safetensors", _tensors(config, follows), "F32")
    return directory


def _pieces_of_call(name: str, arguments: dict) -> list[str]:
    """A call as Hermes writes it, its arguments in two pieces."""
    text = json.dumps(arguments)
    half = len(text) // 2
    return [f'<tool_call>\n{{"name": "{name}", "arguments": ', text[:half], text[half:], "}\n</tool_call>"]


def _write_tokenizer(directory: Path, pieces: list[str], control_names: list[str]) -> None:
    """The bytes, then the pieces, which no text is encoded to, then the control tokens."""
    path = write_byte_tokenizer(directory, []) / "tokenizer.json"
    raw = json.loads(path.read_text())
    for index, piece in enumerate(pieces):
        raw["model"]["vocab"]["".join(CHARACTER_OF_BYTE[byte] for byte in piece.encode())] = 256 + index
    raw["added_tokens"] = [
        {"id": 256 + len(pieces) + index, "content": name, "special": True, "normalized": False, "lstrip": False,
         "rstrip": False, "single_word": False}
        for index, name in enumerate(control_names)
    ]  # fmt: skip
    path.write_text(json.dumps(raw))


def _successors(scripts: list[list[int]]) -> dict[int, int]:
    """What comes after each token; ValueError if that depends on the script."""
    follows: dict[int, int] = {}
    for script in scripts:
        for token, successor in pairwise(script):
            if follows.setdefault(token, successor) != successor:
                raise ValueError("a piece has two successors: scripts must differ in every piece but their last ones")
    return follows


def _tensors(config: dict, follows: dict[int, int]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    shapes = tensor_shapes(config)
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    for name in tensors:
        if "norm" in name:
            tensors[name] += 1
    vectors = random.standard_normal(shapes["model.embed_tokens.weight"]).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    tensors["model.embed_tokens.weight"] = vectors
    for token, successor in follows.items():
        tensors["lm_head.weight"][successor] += LENGTH * vectors[token]
    return tensors
