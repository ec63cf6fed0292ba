"""Field checks of the miniature server: a field is refused unless a fault turns its check off."""


class RefusedError(Exception):
    """A 4xx."""

    def __init__(self, message, param=None, code=None, status=400):
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}


class Checker:
    """Checks the fields of a request, except those whose checks the fault turns off."""

    def __init__(self, body, fault):
        self.body, self.fault = body, fault

    def refuse(self, condition, message, param=None, code=None, status=400):
        if condition and not self.fault.accepts(param or message):
            raise RefusedError(message, param, code, status)
        return bool(condition)

    def typed(self, name, *types, body=None, path=""):
        """The field if it is present and of one of the types, else None."""
        value = (self.body if body is None else body).get(name)
        if value is None:
            return None
        types = (*types, int) if float in types else types
        wrong = type(value) not in types
        return None if self.refuse(wrong, f"Invalid type for '{path}{name}'.", path + name, "invalid_type") else value

    def number(self, name, low, high, number_type=float, default=None):
        value = self.typed(name, number_type)
        if value is None:
            return default
        word = "integer" if number_type is int else "decimal"
        bad = self.refuse(low is not None and value < low, f"{name} is below {low}.", name, f"{word}_below_min_value")
        bad |= self.refuse(
            high is not None and value > high, f"{name} is above {high}.", name, f"{word}_above_max_value"
        )
        return default if bad else value
