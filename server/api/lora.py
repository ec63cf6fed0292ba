"""What the bodies of /v1/load_lora_adapter and /v1/unload_lora_adapter hold: vLLM's fields, and the model's name."""

from verbatim.server.api.fields import Object, required
from verbatim.server.api.policy import REFUSE, reading
from verbatim.server.api.tokens import MODEL
from verbatim.server.api.value_types import STRING

NAME = required("lora_name", STRING, "The adapter's name for clients.", "sql")
PATH = required("lora_path", STRING, "Its directory, or HF://user/repo.", "adapters/sql")
LOAD, UNLOAD = Object(MODEL, NAME, PATH), Object(MODEL, NAME)
COMMANDS = {"load_lora_adapter": LOAD, "unload_lora_adapter": UNLOAD}


def read_load(body: object, model: object) -> tuple[str, str]:
    """Name and path; strictly, whatever the policy: a command must be meant."""
    with reading(REFUSE):
        fields = LOAD.read(body)
        found = fields["lora_name"], fields["lora_path"]
        fields.done()
    return found


def read_unload(body: object, model: object) -> str:
    """The name."""
    with reading(REFUSE):
        fields = UNLOAD.read(body)
        name = fields["lora_name"]
        fields.done()
    return name
