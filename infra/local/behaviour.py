"""Reading the JSON with which a receiver is told to fail."""

from typing import Any


def checked(content: object, expected: dict[str, tuple[bool, str]]) -> dict[str, Any]:
    """Return the JSON object if each field is right. Raises ValueError that names every fault.

    `expected` says of each known field whether its value is right, and what would be.
    """
    fields = as_object(content)
    faults = [f"{name}: expected {form}" for name, (right, form) in expected.items() if not right]
    faults += [f"{name}: unknown" for name in fields if name not in expected]
    if faults:
        raise ValueError("; ".join(faults))
    return fields


def as_object(content: object) -> dict[str, Any]:
    """Return a JSON object as it is. Raises ValueError for any other JSON."""
    if not isinstance(content, dict):
        raise ValueError("expected a JSON object")
    return content


def is_int(value: object, least: int, most: int) -> bool:
    """Say whether a value is a whole number in a range; JSON's true is not 1."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_times(value: object) -> bool:
    """Say whether a value is a number of times, or null for "until told otherwise"."""
    return value is None or is_int(value, 1, 10**9)


def is_seconds(value: object) -> bool:
    """Say whether a value is a number of seconds up to a day, or null."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 86_400)
