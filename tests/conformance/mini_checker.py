"""How the miniature server refuses a field: unless a fault says to keep quiet about it."""


class RefusedError(Exception):
    """A 4xx."""

    def __init__(self, message, param=None, code=None, status=400):
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}


class Checker:
    """Checks the fields of one request, unless the fault keeps quiet about them."""

    def __init__(self, body, fault):
        self.body, self.fault = body, fault

    def refuse(self, condition, message, param=None, code=None, status=400):
        if condition and not self.fault.accepts(param or message):
            raise RefusedError(message, param, code, status)
        return bool(condition)

    def typed(self, name, *kinds, body=None, path=""):
        """The field if it is there and of the kind; None if not."""
        value = (self.body if body is None else body).get(name)
        if value is None:
            return None
        kinds = (*kinds, int) if float in kinds else kinds
        wrong = type(value) not in kinds
        return None if self.refuse(wrong, f"Invalid type for '{path}{name}'.", path + name, "invalid_type") else value

    def number(self, name, low, high, kind=float, default=None):
        value = self.typed(name, kind)
        if value is None:
            return default
        word = "integer" if kind is int else "decimal"
        bad = self.refuse(low is not None and value < low, f"{name} is below {low}.", name, f"{word}_below_min_value")
        bad |= self.refuse(
            high is not None and value > high, f"{name} is above {high}.", name, f"{word}_above_max_value"
        )
        return default if bad else value
