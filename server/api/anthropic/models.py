"""`GET /v1/models` as Anthropic's clients want it: a page of models, all of them on one.

A request that has the header `anthropic-version` comes from such a client.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

HEADER = "anthropic-version"


def is_asked(headers: Mapping) -> bool:
    """Whether a client of Anthropic's sent these headers."""
    return HEADER in headers


def describe(model: Mapping) -> dict:
    """One model, of its entry in OpenAI's form."""
    created_at = datetime.fromtimestamp(model["created"], UTC).isoformat().replace("+00:00", "Z")
    names = {"id": model["id"], "type": "model", "display_name": model["id"], "created_at": created_at}
    size = model.get("max_model_len")
    return names | {"lifecycle": "active", "max_input_tokens": size, "max_tokens": size}


def page_of(models: Iterable[dict]) -> dict:
    """The page of these models, which are in Anthropic's form."""
    data = list(models)
    first_id, last_id = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"data": data, "has_more": False, "first_id": first_id, "last_id": last_id}
