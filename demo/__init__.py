"""A small chat model that ships with verbatim, so that the first run needs no download.

`MODEL` is the model itself, `DRAFT` a far smaller one with the same vocabulary for speculative decoding; `MEDUSA` and
`EAGLE` are heads on the model's own states, for the same. `DRAFTS` has them by the name of the speculative mode.
Everything about them is made here: the text, the vocabulary, the training. See README.md. `STORIES` is a base model
that others trained; it has alternatives at every step, while the demo is mostly sure.
"""

from pathlib import Path

HERE = Path(__file__).parent
MODEL = HERE / "model"
DRAFT = HERE / "draft"
MEDUSA = HERE / "medusa"
EAGLE = HERE / "eagle"
STORIES = HERE / "stories260k"
DRAFTS = {"small_draft": DRAFT, "medusa": MEDUSA, "eagle": EAGLE}
EMBEDDED = {"demo": MODEL, "stories260k": STORIES}  # models that ship, by the names that `--model` reads
