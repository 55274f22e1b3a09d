"""What a person may say about dead letters."""

from typing import Any, Final

from api_service import bodies, fields
from api_service.addresses import MAX_URL_CHARS
from api_service.faults import Fault, FaultyValueError, field_faults
from api_service.persons import MAX_BY_CHARS, MAX_NOTE_CHARS, checked_by, checked_note
from api_service.problems import invalid
from api_service.schemas import StrictSchema
from shared.model import Channel, FailureClass

MAX_RATE_PER_S: Final = 1000
MAX_CANARY: Final = 100


def _reason(text: str) -> str:
    if not text.strip() or len(text) > MAX_NOTE_CHARS:
        raise FaultyValueError("invalid_reason", f"1 to {MAX_NOTE_CHARS} characters")
    return text


def _bounded(text: str) -> str:
    if not 1 <= len(text) <= MAX_URL_CHARS:
        raise FaultyValueError("invalid", f"1 to {MAX_URL_CHARS} characters")
    return text


_BY: Final = {
    "minLength": 1,
    "maxLength": MAX_BY_CHARS,
    "pattern": fields.NOT_BLANK,
    "description": "Who says so, kept as it is given; the caller's name where it is left out.",
}
_REASON: Final = {"minLength": 1, "maxLength": MAX_NOTE_CHARS, "pattern": fields.NOT_BLANK}
_NOTE: Final = _REASON | {"description": "Why; kept in the history."}
_EXACTLY: Final = {"minLength": 1, "maxLength": MAX_URL_CHARS}


class DiscardSchema(StrictSchema):
    """Why a dead letter is not tried again."""

    reason = fields.Text(_reason, required=True, metadata=_REASON)
    by = fields.Text(checked_by, load_default=None, metadata=_BY)


class DecisionSchema(StrictSchema):
    """Who decides, and why."""

    by = fields.Text(checked_by, load_default=None, metadata=_BY)
    note = fields.Text(checked_note, load_default=None, metadata=_NOTE)


class RetryFilterSchema(StrictSchema):
    """Which failed dead letters; at least one of these, and a dead letter fits that fits all that are given."""

    failure_class = fields.Word(FailureClass)
    channel = fields.Word(Channel)
    fingerprint = fields.Text(_bounded, metadata=_EXACTLY | {"description": "As GET /dead-letters/groups shows it."})
    reason = fields.Text(_bounded, metadata=_EXACTLY | {"description": "A constant such as http_503."})
    destination = fields.Text(
        _bounded, metadata=_EXACTLY | {"description": "A webhook's scheme, host and port, or the SMTP server."}
    )
    failed_from = fields.Instant(metadata={"description": "Failed last at or after this instant."})
    failed_to = fields.Instant(metadata={"description": "Failed last before this instant."})


class BulkRetrySchema(StrictSchema):
    """A retry of all that fits a filter."""

    filter = fields.Part(RetryFilterSchema, required=True)
    dry_run = fields.YesNo(load_default=True, metadata={"description": "true: only say what it would take."})
    rate_per_s = fields.Number(low=0.1, high=MAX_RATE_PER_S, load_default=10.0, metadata={
        "description": "How many go out per second, the canary included."})  # fmt: skip
    canary = fields.Count(low=0, high=MAX_CANARY, load_default=10, metadata={
        "description": "How many go first; the others follow once so many were sent, unless one failed."})  # fmt: skip
    by = fields.Text(checked_by, load_default=None, metadata=_BY)
    note = fields.Text(checked_note, load_default=None, metadata=_NOTE)


DISCARD: Final = DiscardSchema()
DECISION: Final = DecisionSchema()
BULK_RETRY: Final = BulkRetrySchema()
ALL: Final = (DiscardSchema, DecisionSchema, RetryFilterSchema, BulkRetrySchema)


def load_bulk_retry(body: Any) -> dict[str, Any]:
    """Return a bulk retry whose filter is one: without any condition it would take everything that ever failed."""
    said = bodies.load(BULK_RETRY, body)
    wanted = said["filter"]
    if not wanted:
        fault = Fault("empty", "at least one of " + ", ".join(RetryFilterSchema().fields))
        raise invalid(list(field_faults({"filter": [fault]})))
    if "failed_from" in wanted and "failed_to" in wanted and wanted["failed_to"] <= wanted["failed_from"]:
        fault = Fault("before_start", "failed_to must be later than failed_from")
        raise invalid(list(field_faults({"filter": {"failed_to": [fault]}})))
    return said
