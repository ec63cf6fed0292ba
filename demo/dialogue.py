"""Renders a conversation with the chat template and turns it into token ids, as the server does.

The text between two control symbols is encoded by itself, a control symbol is its own id: so nothing that a
user writes can become one.
"""

import json
import re
from functools import cache
from pathlib import Path

CONTROL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
DECIDING = 8.0  # the weight in the loss of what decides all that follows
TEMPLATE = Path(__file__).parent / "chat_template.jinja"


@cache
def template():
    """The chat template, compiled as transformers compiles it."""
    import jinja2

    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    # As transformers has it: plain JSON, without the escapes for HTML.
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    return environment.from_string(TEMPLATE.read_text())


def render(conversation, prompt=False):
    """The conversation as one text; with `prompt` it ends where the assistant is to go on."""
    return template().render(
        messages=conversation.messages, tools=conversation.tools or None, bos_token="<s>", add_generation_prompt=prompt
    )


def pieces(text):
    """The rendered text cut at the control symbols, which stay."""
    return [piece for piece in re.split("(" + "|".join(map(re.escape, CONTROL)) + ")", text) if piece]


def encode(processor, text):
    """Token ids of a rendered conversation."""
    ids = []
    for piece in pieces(text):
        ids += [processor.piece_to_id(piece)] if piece in CONTROL else processor.encode(piece)
    return ids


def said_weights(processor, ids):
    """Weights of what the assistant says: its first token, and those a tool's name begins with, decide the rest."""
    weights = [DECIDING, *[1.0] * (len(ids) - 1)][: len(ids)]
    for at, token in enumerate(ids):
        if processor.id_to_piece(token).startswith('{"name":'):
            weights[at + 1 : at + 4] = [DECIDING] * len(weights[at + 1 : at + 4])
    return weights


def encode_with_weights(processor, text, other=0.02):
    """Token ids with the weight of each in the loss: 1 or more for what the assistant says, little for the rest."""
    ids, weights, speaking, start = [], [], False, False
    for piece in pieces(text):
        control = piece in CONTROL
        made = [processor.piece_to_id(piece)] if control else processor.encode(piece)
        if start and piece.startswith("assistant\n"):
            # The role and its newline are given, only what follows is the answer.
            head = len(processor.encode("assistant\n"))
            weights += [other] * head + said_weights(processor, made[head:])
            speaking = True
        else:
            weights += [1.0 if speaking and piece == "<|im_end|>" else other] * len(made)
            speaking = speaking and not control
        ids, start = ids + made, piece == "<|im_start|>"
    return ids, weights
