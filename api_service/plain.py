"""Requests that leave no doubt, understood by hand.

The checks are those of the schemas, called one by one without marshmallow's bookkeeping, which takes ten times as long
as they do: a batch has a thousand items. At the first doubt there is no answer here. The schemas stay the contract, and
a property test holds that they say the same of whatever is understood here.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import marshmallow as ma
import orjson
from marshmallow import ValidationError

from api_service import addresses, fields, texts
from api_service.accept import NotificationRequest
from api_service.faults import FaultyValueError
from api_service.strict_json import MAX_DEPTH, depth_of
from shared.model import Channel, OnUnknown, Priority

_TIMES: Final = frozenset(("scheduled_for", "expires_at", "expires_in"))
_TEXTS: Final[Mapping[str, Callable[[str], Any]]] = {
    "message": texts.checked_message,
    "ordering_key": texts.checked_ordering_key,
    "priority": {member.value: member for member in Priority}.__getitem__,
    "on_unknown": {member.value: member for member in OnUnknown}.__getitem__,
}


class _DoubtError(Exception):
    """The schemas have to look at this."""


def _members_within(max_bytes: int) -> Callable[[Any], dict[str, Any]]:
    def check(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise _DoubtError
        text = orjson.dumps(value)
        if len(text) > max_bytes:
            raise _DoubtError
        # Each level takes two brackets. Those within strings are counted too: they can only lead to a closer look.
        brackets = text.count(b"{") + text.count(b"[") if len(text) > 2 * MAX_DEPTH else 0
        if brackets > MAX_DEPTH and depth_of(value) > MAX_DEPTH:
            raise _DoubtError
        return value

    return check


class PlainReader:
    """Reads requests of one channel, given the check of its recipients and its schema."""

    def __init__(self, channel: Channel, recipient: Callable[[str], str], schema: ma.Schema) -> None:
        texts_of_channel = {"channel": {channel.value: channel}.__getitem__, "recipient": recipient}
        self._texts: dict[str, Callable[[str], Any]] = {**_TEXTS, **texts_of_channel}
        if channel is Channel.EMAIL:
            self._texts |= {"subject": texts.checked_subject, "sender": addresses.checked_sender}
        else:
            self._texts["endpoint"] = addresses.checked_endpoint
        self._others: dict[str, Callable[[Any], Any]] = {}
        for name, field in schema.fields.items():
            if isinstance(field, fields.FutureInstant):
                self._texts[name] = field._deserialize
            elif isinstance(field, fields.Members):
                self._others[name] = _members_within(field.max_bytes)
            elif name not in self._texts:
                self._others[name] = field._deserialize  # type: ignore[assignment]  # ours need the value alone

    def read(self, body: dict[str, Any], default_recipient: str | None = None) -> NotificationRequest | None:
        """Return the request in a parsed body, None where there is any doubt about it."""
        read_text, read_other = self._texts, self._others
        found: dict[str, Any] = {}
        try:
            for name, value in body.items():
                found[name] = read_text[name](value) if type(value) is str else read_other[name](value)
        except (KeyError, _DoubtError, FaultyValueError, ValidationError, orjson.JSONEncodeError):
            return None
        if "endpoint" in found:
            if "recipient" in found:
                return None
            found["recipient"] = found.pop("endpoint")
        elif default_recipient is not None:
            found.setdefault("recipient", default_recipient)
        if "message" not in found or "recipient" not in found:
            return None
        if not _TIMES.isdisjoint(found):
            if len(_TIMES & found.keys()) > 1:
                return None  # how they agree is the schemas' to judge
            found["expires_in_s"] = found.pop("expires_in", None)
        return NotificationRequest(**found)
