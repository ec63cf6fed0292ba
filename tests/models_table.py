"""The table of architectures in docs/models.md; `python tests/models_table.py` writes it anew.

What each row says is read from the families, from a small config.json of the architecture, and from what the GPU path
says that it lacks. The version of transformers is the one that tests/test_families.py last ran against.
"""

import json
import tempfile
from pathlib import Path

from family_models import PUBLISHED, SIZES
from verbatim.fastpath.gpu.support import missing
from verbatim.reference.checkpoint.families import families, load_config
from verbatim.reference.checkpoint.families.family import Family
from verbatim.reference.records.config import ModelConfig

DOCUMENT = Path(__file__).parents[1] / "docs" / "models.md"
BEGIN, END = "<!-- architectures: begin -->\n", "<!-- architectures: end -->\n"
TRANSFORMERS = "transformers 5.24.0"
CHECKED_OTHERWISE = {"internlm2": "Llama with its tensors rearranged"}  # transformers has no class of its own
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
WITH_EXPERTS = ("mixtral", "qwen3_moe", "phimoe")  # whose config.json says how many
FURTHER = {"Ministral3ForCausalLM": PUBLISHED["ministral3"][1]["text_config"]}


def table() -> str:
    """Markdown, a row for each architecture."""
    lines = ["| architecture | family | checked against | reference, CPU | GPU |", "|---|---|---|---|---|"]
    for family in families():
        for architecture in (family.architecture, *family.aliases):
            checked = CHECKED_OTHERWISE.get(family.name, TRANSFORMERS)
            lines.append(f"| `{architecture}` | {family.name} | {checked} | yes | {on_gpu(architecture, family)} |")
    return "\n".join(lines) + "\n"


def on_gpu(architecture: str, family: Family) -> str:
    """Whether the GPU path runs the architecture's models: all, some or none, and what it lacks."""
    known = [changes for name, changes in PUBLISHED.values() if name == architecture]
    known = known or [FURTHER.get(architecture, EXPERTS if family.name in WITH_EXPERTS else {"hidden_size": 64})]
    found = [missing(example(architecture, changes)) for changes in known]
    lacking = ", ".join(dict.fromkeys(name for names in found for name in names))
    return "yes" if not lacking else f"yes, but not with {lacking}" if [] in found else f"not yet: {lacking}"


def example(architecture: str, changes: dict) -> ModelConfig:
    """The configuration of a small model."""
    raw = SIZES | changes
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(raw | {"architectures": [architecture]}))
        return load_config(folder)


def renewed(text: str) -> str:
    """The document with the table as it is now."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END)[1]


if __name__ == "__main__":
    DOCUMENT.write_text(renewed(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
