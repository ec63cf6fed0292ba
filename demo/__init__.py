"""A small chat model that ships with verbatim, so that the first run needs no download.

`MODEL` is the model itself, `DRAFT` a far smaller one with the same vocabulary for speculative decoding.
Everything about them is made here: the text, the vocabulary, the training. See README.md.
"""

from pathlib import Path

HERE = Path(__file__).parent
MODEL = HERE / "model"
DRAFT = HERE / "draft"
