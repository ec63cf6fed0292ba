"""Trains the vocabulary: whole pieces for the phrases that come up again and again, letters for the rest.

A unigram SentencePiece model, trained on conversations whose words are random letters: so the pieces are the
words of the phrases and the boilerplate of tool lists, and any other word is spelled letter by letter, which
is what lets a small model copy, reverse and upper-case words that it has never seen.
"""

import io
import re
import string
from collections import Counter
from itertools import islice
from math import isqrt

from verbatim.demo import facts
from verbatim.demo.corpus import conversations
from verbatim.demo.dialogue import CONTROL, render
from verbatim.demo.words import given

SIZE = 896
OFTEN = 6
SPACE = "\u2581"
MARKS = ["<tools>", "</tools>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
# The boilerplate of tool lists and calls; each may become one piece.
BOILERPLATE = [
    '{"type": "function", "function": {"name": "',
    '{"type": "function", ',
    '"function": {"name": "',
    '"type": "',
    '", "description": "',
    '", "parameters": {"type": "object", "properties": {"',
    '"parameters": {',
    '"properties": {"',
    '{"type": "object", ',
    '": {"type": "string"',
    '": {"type": "integer"',
    '": {"type": "number"',
    '": {"type": "boolean"',
    '": {"type": "string", "enum": ["',
    '": {"title": "',
    '{"type": "string"',
    ', "description": "',
    '"}, "',
    '"]}, "',
    '}, "',
    '"}}, "required": ["',
    '}}, "required": ["',
    '"]}}, "required": ["',
    '"required": ["',
    '"]}}}',
    '", "',
    '": "',
    '": ',
    '{"',
    '"}',
    '"}}',
    '", "arguments": {"',
    '{"name": "',
    '"enum": ["',
    ', "',
    '"]',
    "}}",
    ', "additionalProperties": false}}}',
]
CHUNKS = re.compile(
    "|".join(re.escape(text) for text in sorted(BOILERPLATE, key=len, reverse=True))
    + r"| ?[A-Za-z]+| ?\d| ?[^\sA-Za-z\d]|\s"
)


def chunks(count, seed=0):
    """Every stretch that may become a piece, and in how many of `count` conversations it is."""
    found = Counter()
    for conversation in islice(conversations(seed, "letters"), count):
        segments = re.split("|".join(re.escape(mark) for mark in CONTROL + MARKS), render(conversation))
        found.update({chunk for segment in segments for chunk in CHUNKS.findall(segment)})
    return found


def train(path, count=6000, size=SIZE):
    """Writes a SentencePiece model of `size` pieces to `path`."""
    import sentencepiece

    # Random words come up once or twice, phrases often; the root keeps the rarer phrases from being pruned.
    spelled = given() | facts.subjects()
    phrases = {
        chunk: isqrt(times)
        for chunk, times in chunks(count).items()
        if times >= OFTEN
        and chunk.strip().lower() not in spelled
        and (len(chunk) > 2 or not chunk.isalpha())
        and chunk != "\n"
    }
    sentences = (chunk for chunk, times in phrases.items() for _ in range(times))
    # Only whole phrases and letters are candidates: a part of a word would only make copying harder.
    letters = Counter(letter for phrase in phrases for letter in phrase.replace(" ", SPACE))
    seeds = path.with_suffix(".seeds")
    seeds.write_text(
        "".join(
            f"{piece}\t{times}\n"
            for piece, times in sorted(
                {**letters, **{phrase.replace(" ", SPACE): times for phrase, times in phrases.items()}}.items()
            )
        )
    )
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=sentences,
        model_writer=model,
        model_type="unigram",
        vocab_size=size,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        split_by_whitespace=False,
        split_by_unicode_script=False,
        max_sentencepiece_length=80,
        character_coverage=1.0,
        required_chars=string.printable[:94],
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        control_symbols=CONTROL[2:],
        user_defined_symbols=MARKS,
        num_threads=2,
        minloglevel=1,
        seed_sentencepieces_file=str(seeds),
    )
    seeds.unlink()
    path.write_bytes(model.getvalue())


def load(path):
    """The SentencePiece model at `path`."""
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_file=str(path))
