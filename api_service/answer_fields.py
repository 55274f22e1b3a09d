"""What the shapes of answers are written with."""

from typing import Any

from marshmallow import Schema, fields


def text(description: str = "", **metadata: Any) -> fields.String:
    """Return a string."""
    return fields.String(metadata={"description": description} | metadata if description else metadata)


def word(kind: Any, description: str = "") -> fields.String:
    """Return one of the members of an enumeration."""
    return text(description, enum=[str(member) for member in kind])


def maybe(description: str = "", **metadata: Any) -> fields.String:
    """Return a string or null."""
    return fields.String(allow_none=True, metadata={"description": description} | metadata)


def instant(description: str = "") -> fields.String:
    """Return an instant."""
    return text(description or "RFC 3339, UTC", format="date-time")


def maybe_instant(description: str = "") -> fields.String:
    """Return an instant or null."""
    return maybe(description or "RFC 3339, UTC", format="date-time")


class PageSchema(Schema):
    """One page of several."""

    next_cursor = maybe("Give it as cursor to get the next page.")
    has_more = fields.Boolean()
