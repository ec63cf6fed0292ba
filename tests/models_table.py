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
from verbatim.reference.checkpoint.gguf.architectures import ARCHITECTURES
from verbatim.reference.checkpoint.gguf.describing import NAMES
from verbatim.reference.dialects import DIALECTS
from verbatim.reference.dialects.thoughts import NAMES as THOUGHTS
from verbatim.reference.records.config import ModelConfig

DOCUMENT = Path(__file__).parents[1] / "docs" / "models.md"
BEGIN, END = "<!-- architectures: begin -->\n", "<!-- architectures: end -->\n"
TRANSFORMERS = "transformers 5.24.0"
CHECKED_OTHERWISE = {"internlm2": "Llama with its tensors rearranged"}  # transformers has no class of its own
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
WITH_EXPERTS = ("mixtral", "qwen3_moe", "phimoe")  # whose config.json says how many
WRITES = {  # family: how models that are published for it call tools and think, as their chat templates show
    "cohere2": ("command_r7b", "command"),
    "deepseek_v3": ("deepseek_v3, deepseek_v31, kimi_k2", "think"),
    "ernie4_5": ("ernie45", ""),
    "ernie4_5_moe": ("ernie45", "think"),
    "gemma3": ("gemma3, functiongemma", ""),
    "gemma3n": ("gemma3", ""),
    "gemma4": ("gemma4", "gemma4"),
    "gemma4_unified": ("gemma4", "gemma4"),
    "glm4_moe": ("glm45, glm47", "think"),
    "glm4_moe_lite": ("glm47", "think"),
    "gpt_oss": ("harmony", "harmony"),
    "granitemoehybrid": ("hermes", ""),
    "nemotron_h": ("nemotron, qwen3_coder", "think"),
    "granite": ("granite, hermes", "granite"),
    "granitemoe": ("granite, hermes", "granite"),
    "hunyuan_v1_dense": ("hunyuan_a13b", "think"),
    "hunyuan_v1_moe": ("hunyuan_a13b", "think"),
    "internlm2": ("internlm", ""),
    "lfm2": ("lfm2", "think"),
    "lfm2_moe": ("lfm2", "think"),
    "llama": ("llama3, pythonic, hermes, functionary", "think"),
    "llama4": ("llama4", ""),
    "minimax_m2": ("minimax_m2", "think"),
    "mistral": ("mistral", "magistral"),
    "mixtral": ("mistral", ""),
    "olmo3": ("olmo3", "think"),
    "phi3": ("phi4_mini, functools", ""),
    "qwen2": ("hermes", "think"),
    "qwen2_moe": ("hermes", ""),
    "qwen3": ("hermes", "think"),
    "qwen3_5": ("qwen3_coder", "think"),
    "qwen3_5_moe": ("qwen3_coder", "think"),
    "qwen3_moe": ("hermes, qwen3_coder", "think"),
    "qwen3_next": ("hermes, qwen3_coder", "think"),
    "seed_oss": ("seed_oss", "seed_oss"),
    "smollm3": ("hermes", "think"),
}
# Names of GGUF files that are read, where they are not those that are written.
READ = {"deepseek_v3": "deepseek2", "glm4_moe_lite": "deepseek2", "internlm2": "internlm2, llama"}
NOT_IN_GGUF = ("Ministral3ForCausalLM",)  # its files have a name of their own, which is not read
FURTHER = {"Ministral3ForCausalLM": PUBLISHED["ministral3"][1]["text_config"]}


def table() -> str:
    """Markdown, a row for each architecture."""
    lines = ["| architecture | checked against | tools | thinking | GGUF | GPU |", "|---|---|---|---|---|---|"]
    for family in families():
        for architecture in (family.architecture, *family.aliases):
            checked = CHECKED_OTHERWISE.get(family.name, TRANSFORMERS)
            cells = (
                f"`{architecture}`",
                checked,
                *writes(family),
                gguf_name(architecture, family),
                on_gpu(architecture, family),
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def writes(family: Family) -> tuple[str, str]:
    """The formats of tool calls and of thoughts; names that the server does not know are an error."""
    tools, thinking = WRITES.get(family.name, ("", ""))
    unknown = {*tools.split(", ")} - {dialect.name for dialect in DIALECTS} - {""}
    if unknown or thinking not in ("", *THOUGHTS):
        raise ValueError(f"{family.name}: no format is called {', '.join(unknown) or thinking}")
    return tools, thinking


def gguf_name(architecture: str, family: Family) -> str:
    """The `general.architecture` of its GGUF files, if they are read."""
    found = [name for name, known in ARCHITECTURES.items() if known.name == family.architecture]
    name = READ.get(family.name) or NAMES.get(family.name) or (found[0] if found else "no")
    return "no" if architecture in NOT_IN_GGUF else name


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
