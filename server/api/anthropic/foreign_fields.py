"""Fields of Anthropic's API that have no effect here; server/api/foreign.py explains the ways that they are read."""

from verbatim.server.api import foreign_fields
from verbatim.server.api.foreign import Foreign, anything, refusals, wishes
from verbatim.server.api.value_types import OBJECT, STRING

# In the body of both paths.
PROMPT: dict[str, Foreign] = foreign_fields.REQUEST | {
    **refusals(mcp_servers=[]),
    **wishes(context_management=({}, {"edits": []}), speed="standard"),
    **anything(OBJECT, "cache_control diagnostics"),
    **anything(STRING, "inference_geo user_profile_id workspace_id"),
    **anything(None, "betas container fallbacks"),
}

# In that of a message alone.
REQUEST: dict[str, Foreign] = PROMPT | {
    **wishes(service_tier=("auto", "standard_only")),
    **anything(OBJECT, "metadata"),
}

OUTPUT_CONFIG = anything(None, "task_budget")
BLOCK: dict[str, Foreign] = foreign_fields.PART | foreign_fields.CALL
TOOL = foreign_fields.TOOL
MESSAGE = foreign_fields.MESSAGE
