"""Errors as Anthropic writes them: {"type": "error", "error": {"type", "message"}, "request_id"}.

`param` and `code` of OpenAI's form are kept beside the message: they name the field and the fault.
"""

TYPES = {  # by code
    "invalid_api_key": "authentication_error",
    "model_not_found": "not_found_error",
    "unknown_url": "not_found_error",
    "request_too_large": "request_too_large",
    "rate_limit_exceeded": "rate_limit_error",
    "engine_unavailable": "overloaded_error",
    "timeout": "timeout_error",
}
TOO_LONG = "prompt is too long"  # clients know this error by these words, and shorten the conversation


def shape(body: dict) -> dict:
    """An error's body in Anthropic's form, of that in OpenAI's; who sends it fills in `request_id`."""
    error = body["error"]
    type_ = TYPES.get(error["code"], "api_error" if error["type"] == "server_error" else "invalid_request_error")
    named = {"type": type_, "message": _message(error), "param": error["param"], "code": error["code"]}
    return {"type": "error", "error": named, "request_id": None}


def _message(error: dict) -> str:
    message = error["message"]
    if error["code"] == "context_length_exceeded" and not message.startswith(TOO_LONG):
        return f"{TOO_LONG}: {message}"
    if error["code"] == "model_not_found":
        return f"{message} To serve a model under that name, start the server with --served-model-name NAME."
    return message
