"""The one error a person running the local stack is meant to read."""


class LocalStackError(Exception):
    """Something on this machine stands in the way. The message is one sentence that says what, and what to do."""
