"""What Ollama's clients ask about models: the list, one in detail, those that are loaded, and that one is there.

All models are loaded and stay so. Their names have `:latest` where they have no other tag. What a file of Ollama's
would say (a digest, a size) is made up of what is known here.
"""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from verbatim.server.api import parameters
from verbatim.server.api.adapter import Page
from verbatim.server.api.fields import Field, Object, answer, required
from verbatim.server.api.foreign_fields import REQUEST
from verbatim.server.api.value_types import ANYTHING, BOOLEAN, OBJECT, STRING, ValueType, array
from verbatim.server.errors import ModelNotFoundError
from verbatim.server.models.served import TAG, ServedModel

API_VERSION = "0.13.0"  # of Ollama, whose API this is; clients refuse old ones
NEVER = "9999-12-31T23:59:59Z"
NAME = Field("name", STRING, "The same, as older clients write it.", example="verbatim-demo")
SHOW = Object(parameters.MODEL, NAME, Field("verbose", BOOLEAN, "Without effect.", default=False), foreign=REQUEST)
PULL = Object(
    parameters.MODEL,
    NAME,
    Field("stream", BOOLEAN, "Without effect: the answer is one line.", default=True),
    Field("insecure", BOOLEAN, "Without effect.", default=False),
    foreign=REQUEST,
)
LISTED = ValueType(ANYTHING.read, array(OBJECT).schema)
DETAILS = {"format": "safetensors", "family": "llama"}
SCHEMAS = {
    "OllamaModels": answer(required("models", LISTED, "The models.", [{"name": "verbatim-demo:latest"}])),
    "OllamaModel": answer(
        required("details", OBJECT, "Family and format.", DETAILS),
        required("model_info", OBJECT, "Sizes of the model.", {"general.architecture": "llama"}),
        required("capabilities", array(STRING), "What it can do.", ["completion", "tools"]),
    ),
    "OllamaStatus": answer(required("status", STRING, "Always success.", "success")),
    "OllamaVersion": answer(required("version", STRING, "The version of Ollama whose API this is.", API_VERSION)),
}


def tagged(name: str) -> str:
    """A model's name as Ollama lists it."""
    return name if ":" in name else name + TAG


def entry(model: ServedModel, name: str) -> dict:
    """The entry of a list."""
    digest = sha256(model.fingerprint.encode()).hexdigest()
    named = {"name": tagged(name), "model": tagged(name), "modified_at": _modified(model), "size": 0}
    return named | {"digest": digest, "details": details(model)}


def loaded_entry(model: ServedModel, name: str) -> dict:
    """The entry of a model that is loaded."""
    context = {"context_length": model.config.context_size}
    return entry(model, name) | {"expires_at": NEVER, "size_vram": 0} | context


def details(model: ServedModel) -> dict:
    """Family and format."""
    family = model.config.family
    known = {"parent_model": model.parent, "format": "safetensors", "family": family, "families": [family]}
    return known | {"parameter_size": "", "quantization_level": model.config.quantization or ""}


def capabilities(model: ServedModel) -> list[str]:
    """What the model can do, in Ollama's words."""
    if model.is_for_embeddings:
        return ["embedding"]
    found = {"completion": True, "tools": bool(model.template and "tools" in model.template.variables)}
    found["insert"] = model.infill is not None
    return [name for name, has in found.items() if has]


def show(body: Any, model: ServedModel) -> dict:
    """One model in detail."""
    fields = SHOW.read(body)
    _check_name(fields["model"], fields["name"], model)
    fields.done()
    config, family = model.config, model.config.family
    sizes: dict[str, Any] = {
        "context_length": config.context_size, "embedding_length": config.hidden_size,
        "block_count": config.num_layers, "attention.head_count": config.num_heads,
        "attention.head_count_kv": config.num_kv_heads, "vocab_size": config.vocab_size,
    }  # fmt: skip
    info = {"general.architecture": family} | {f"{family}.{name}": size for name, size in sizes.items()}
    template = model.template.source if model.template else ""
    described = {"modelfile": f"FROM {model.model_id}", "parameters": "", "template": template, "license": ""}
    return described | {
        "details": details(model), "model_info": info, "capabilities": capabilities(model),
        "modified_at": _modified(model),
    }  # fmt: skip


def pull(body: Any, model: ServedModel) -> dict:
    """Nothing is fetched: a model that is served is there, and another one is an error."""
    fields = PULL.read(body)
    _check_name(fields["model"], fields["name"], model)
    fields.done()
    return {"status": "success"}


def _check_name(name: str | None, older: str | None, model: ServedModel) -> None:
    """The model was found by its newer name; the older one, if it stands alone, must be that of the main model."""
    if older and not name and older.removesuffix(TAG) not in model.names:
        raise ModelNotFoundError(f"The model {older[:200]!r} does not exist; this server has {model.model_id!r}.")


def _modified(model: ServedModel) -> str:
    return datetime.fromtimestamp(model.created, UTC).isoformat().replace("+00:00", "Z")


CODES = ("400", "401", "404", "408", "413")
PAGES = (
    Page(name="show", method="POST", path="/api/show", summary="A model in detail, in Ollama's form", body=SHOW,
         answer="OllamaModel", codes=CODES, handle=show, examples={"The main model": {}}),
    Page(name="pull", method="POST", path="/api/pull", summary="Whether a model is served", body=PULL,
         answer="OllamaStatus", codes=CODES, handle=pull, examples={"The main model": {}}),
)  # fmt: skip
