"""Endpoints, webhook receivers with a name of their own: how they are named where a URL could stand."""

import re
from typing import Final
from uuid import UUID

_NAME: Final = re.compile(r"ep_([0-9a-f]{32})")


def endpoint_name(endpoint_id: UUID) -> str:
    """Return what clients, notifications and records call an endpoint."""
    return f"ep_{endpoint_id.hex}"


def endpoint_id(text: str) -> UUID | None:
    """Return the endpoint that a text names; None for a URL, and for anything else. It need not exist."""
    found = _NAME.fullmatch(text)
    return UUID(hex=found[1]) if found else None
