"""What the API of responses answers, as JSON schemas."""

from verbatim.server.api.value_types import BOOLEAN, OBJECT, STRING, one_of

RESPONSE = {
    "type": "object",
    "required": ["id", "object", "created_at", "status", "model", "output", "usage", "error", "incomplete_details"],
    "properties": {
        "id": STRING.schema,
        "object": {"const": "response"},
        "status": one_of("in_progress", "completed", "incomplete", "failed").schema,
        "output": {"type": "array", "items": OBJECT.schema | {"required": ["type", "id", "status"]}},
    },
}
DELETED = {
    "type": "object",
    "required": ["id", "object", "deleted"],
    "properties": {"id": STRING.schema, "object": {"const": "response"}, "deleted": BOOLEAN.schema},
}
ITEMS = {
    "type": "object",
    "required": ["object", "data", "first_id", "last_id", "has_more"],
    "properties": {
        "object": {"const": "list"},
        "data": {"type": "array", "items": OBJECT.schema},
        "has_more": BOOLEAN.schema,
    },
}
SCHEMAS = {"Response": RESPONSE, "Deleted": DELETED, "Items": ITEMS}
