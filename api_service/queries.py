"""Query parameters: read strictly, so that a filter with a typing error never lists everything instead."""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final, TypeVar

import marshmallow as ma
from marshmallow import RAISE, ValidationError
from werkzeug.datastructures import MultiDict

from api_service import fields
from api_service.actions import Action, EntityType
from api_service.addresses import MAX_URL_CHARS
from api_service.faults import Fault, FaultyValueError, field_faults, forget_frames
from api_service.identity_schemas import Role
from api_service.paging import DEFAULT_LIMIT, MAX_LIMIT
from api_service.problems import ParameterFault, invalid
from shared.model import BreakerState, Channel, FailureClass, Status

T = TypeVar("T")
_CLASSES: Final = frozenset(FailureClass)


class LetterStatus(StrEnum):
    """Where a dead letter stands."""

    FAILED = "failed"
    RETRYING = "retrying"
    RESOLVED = "resolved"


class SuppressionReason(StrEnum):
    """Why nothing is sent to a recipient: its receiver said so, or a person did."""

    GONE = "gone"
    ADDRESS_REFUSED = "address_refused"
    MANUAL = "manual"


class OpenLetterStatus(StrEnum):
    """Where a dead letter stands that has not been resolved."""

    FAILED = "failed"
    RETRYING = "retrying"


class RetryStatus(StrEnum):
    """Where a bulk retry stands."""

    CANARY = "canary"
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    CANCELLED = "cancelled"


class Flag(StrEnum):
    """A yes or no in a query."""

    TRUE = "true"
    FALSE = "false"


_BOUNDS: Final[dict[str, Any]] = {"minLength": 1, "maxLength": MAX_URL_CHARS, "pattern": r"^[^\u0000]*$"}
_DESTINATION: Final = r"[A-Za-z0-9._:/\[\]-]{1,300}"
_NAME: Final = r"[A-Za-z0-9_.:@/-]{1,200}"


def _bounded(text: str) -> str:
    if not 1 <= len(text) <= MAX_URL_CHARS or "\x00" in text:
        raise FaultyValueError("invalid", f"1 to {MAX_URL_CHARS} characters")
    return text


def _recipient(text: str) -> str:
    """Take what may be stored as one: what is accepted today may be less than what was."""
    if not re.fullmatch(r"""[^\s\x00-\x1f\x7f"<>\\^`{|}]{1,2048}""", text) or not re.search(r"@|://|\Aep_", text):
        raise FaultyValueError("invalid", "an e-mail address, a URL, or the id of an endpoint")
    return text


def _destination(text: str) -> str:
    if not re.fullmatch(_DESTINATION, text):
        raise FaultyValueError("invalid", "as a destination is shown, such as https://example.com:443")
    return text


def _fingerprint(text: str) -> str:
    if text.partition("|")[0] not in _CLASSES or "|" not in text:
        raise FaultyValueError("invalid", "as a dead letter shows it: failure class, destination and reason")
    return _bounded(text)


def _name(text: str) -> str:
    if not re.fullmatch(_NAME, text):
        raise FaultyValueError("invalid", "an id: letters, digits and _ . : @ / -, at most 200")
    return text


class _Query(ma.Schema):
    class Meta:
        unknown = RAISE

    error_messages: dict[str, str] = {  # noqa: RUF012 - marshmallow declares it so
        "unknown": Fault("unknown_parameter", "there is no such parameter"),
    }


class _PageQuery(_Query):
    limit = fields.WholeNumber(low=1, high=MAX_LIMIT, load_default=DEFAULT_LIMIT)
    cursor = fields.Text(_bounded, metadata=_BOUNDS | {"description": "next_cursor of the page before."})


class NotificationsQuery(_PageQuery):
    """Which notifications to list."""

    status = fields.Word(Status, metadata={
        "description": "A failure is listed as soon as its dead letter has been tracked, normally within a second of "
        "it; GET by id is exact."})  # fmt: skip
    channel = fields.Word(Channel)
    recipient = fields.Text(_recipient, metadata=_BOUNDS | {"description": "Exactly as stored."})
    since = fields.Instant(data_key="from", metadata={"description": "Accepted at or after this instant."})
    until = fields.Instant(data_key="to", metadata={"description": "Accepted before this instant."})


class DeadLettersQuery(_PageQuery):
    """Which dead letters to list."""

    status = fields.Word(LetterStatus)
    failure_class = fields.Word(FailureClass)
    channel = fields.Word(Channel)
    fingerprint = fields.Text(_fingerprint, metadata=_BOUNDS | {"description": "Dead letters with one cause share it."})


class DestinationsQuery(_PageQuery):
    """Which destinations to list."""

    destination = fields.Text(
        _destination,
        metadata={
            "pattern": f"^{_DESTINATION}$",
            "description": "Exactly this one, such as https://example.com:443.",
        },
    )
    breaker = fields.Word(BreakerState, metadata={"description": "The worst over all consumers."})
    channel = fields.Word(Channel)


class SuppressionsQuery(_PageQuery):
    """Which suppressions to list."""

    channel = fields.Word(Channel)
    recipient = fields.Text(_recipient, metadata=_BOUNDS | {"description": "Exactly as stored."})
    reason = fields.Word(SuppressionReason)
    active = fields.Word(Flag, metadata={"description": "false: those that have been lifted."})


class EndpointsQuery(_PageQuery):
    """Which endpoints to list."""


class AuditLogsQuery(_PageQuery):
    """Which rows of the audit log to list."""

    action = fields.Word(Action)
    actor = fields.Text(_name, metadata={"pattern": f"^{_NAME}$", "description": "The id of a key or a user."})
    entity_type = fields.Word(EntityType)
    entity_id = fields.Text(_name, metadata={"pattern": f"^{_NAME}$"})
    since = fields.Instant(data_key="from", metadata={"description": "Done at or after this instant."})
    until = fields.Instant(data_key="to", metadata={"description": "Done before this instant."})


class GroupsQuery(_Query):
    """Which dead letters to count."""

    status = fields.Word(OpenLetterStatus, load_default=OpenLetterStatus.FAILED, metadata={"default": "failed"})
    failure_class = fields.Word(FailureClass)
    channel = fields.Word(Channel)
    limit = fields.WholeNumber(low=1, high=MAX_LIMIT, load_default=DEFAULT_LIMIT, metadata={
        "description": "How many groups, the largest first."})  # fmt: skip


class RetriesQuery(_PageQuery):
    """Which bulk retries to list."""

    status = fields.Word(RetryStatus)


class UsersQuery(_PageQuery):
    """Which users to list."""

    role = fields.Word(Role)
    active = fields.Word(Flag, metadata={"description": "false: those that are disabled."})


class ApiKeysQuery(_PageQuery):
    """Which keys to list."""

    active = fields.Word(Flag, metadata={"description": "false: those that are revoked or have expired."})


class BatchQuery(_Query):
    """How a batch is taken."""

    atomic = fields.Word(Flag, load_default=Flag.TRUE, metadata={
        "default": "true", "description": "false: accept what is valid, report the rest item by item."})  # fmt: skip


NOTIFICATIONS: Final = NotificationsQuery()
DEAD_LETTERS: Final = DeadLettersQuery()
DESTINATIONS: Final = DestinationsQuery()
SUPPRESSIONS: Final = SuppressionsQuery()
ENDPOINTS: Final = EndpointsQuery()
AUDIT_LOGS: Final = AuditLogsQuery()
GROUPS: Final = GroupsQuery()
RETRIES: Final = RetriesQuery()
USERS: Final = UsersQuery()
API_KEYS: Final = ApiKeysQuery()
BATCH: Final = BatchQuery()
NOTHING: Final = _Query()


def load(schema: ma.Schema, args: "MultiDict[str, str]") -> dict[str, Any]:
    """Return the parameters of a query. Raises Problem 400 naming each that is wrong, repeated or unknown."""
    faults = [
        ParameterFault("parameter", name[:100], Fault("repeated_parameter", "given more than once"))
        for name, values in args.lists()
        if len(values) > 1
    ]
    found: dict[str, Any] = {}
    try:
        found = schema.load(args.to_dict())
    except ValidationError as error:
        faults += [
            ParameterFault("parameter", found.pointer.removeprefix("/"), found.fault)
            for found in field_faults(error.messages)
        ]
        forget_frames(error)
    if faults:
        raise invalid(faults)
    return found


def place(query: Mapping[str, Any], read: Callable[[str], T]) -> T | None:
    """Return the place that the cursor of a query names, None where it has none. Raises Problem 400."""
    if (cursor := query.get("cursor")) is None:
        return None
    try:
        return read(cursor)
    except FaultyValueError as error:
        raise invalid([ParameterFault("parameter", "cursor", error.fault)]) from error
