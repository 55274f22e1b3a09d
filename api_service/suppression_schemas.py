"""What a person may say about suppressions."""

from collections.abc import Callable
from typing import Any, Final

from marshmallow import ValidationError

from api_service import addresses, fields
from api_service.faults import FaultyValueError, FieldFault, field_faults, forget_frames
from api_service.persons import MAX_BY_CHARS, MAX_NOTE_CHARS, checked_by, checked_note
from api_service.problems import invalid
from api_service.schemas import StrictSchema
from shared.model import Channel

_CHECKS: Final[dict[Channel, Callable[[str], str]]] = {
    Channel.EMAIL: addresses.checked_email,
    Channel.WEBHOOK: addresses.checked_url,
}


_BY: Final = {
    "minLength": 1,
    "maxLength": MAX_BY_CHARS,
    "pattern": fields.NOT_BLANK,
    "description": "Who says so, kept as it is given; the caller's name where it is left out.",
}


class SuppressSchema(StrictSchema):
    """Which recipient nothing is to be sent to."""

    channel = fields.Word(Channel, required=True)
    recipient = fields.Text(
        str, required=True, metadata={"description": "As in a notification of this channel; URLs match as a whole."}
    )
    reason_note = fields.Text(
        checked_note,
        metadata={"minLength": 1, "maxLength": MAX_NOTE_CHARS, "pattern": fields.NOT_BLANK, "description": "Why."},
    )
    by = fields.Text(checked_by, load_default=None, metadata=_BY)


class LiftSchema(StrictSchema):
    """Who lifts a suppression."""

    by = fields.Text(checked_by, load_default=None, metadata=_BY)


_SUPPRESS: Final = SuppressSchema()
_LIFT: Final = LiftSchema()


def load_suppress(body: Any) -> dict[str, Any]:
    """Return the fields of a body, the recipient as a notification stores it. Raises Problem with every fault."""
    faults: list[FieldFault] = []
    try:
        found = dict(_SUPPRESS.load(body))
    except ValidationError as error:
        found, faults = dict(error.valid_data or {}), list(field_faults(error.messages))
        forget_frames(error)
    if "channel" in found and "recipient" in found:
        try:
            found["recipient"] = _CHECKS[found["channel"]](found["recipient"])
        except FaultyValueError as error:
            faults.append(FieldFault("/recipient", error.fault))
    if faults:
        raise invalid(faults)
    return found


def load_lift(body: Any) -> dict[str, Any]:
    """Return the fields of a body. Raises Problem with every fault."""
    try:
        return dict(_LIFT.load(body))
    except ValidationError as error:
        raise invalid(list(field_faults(error.messages))) from error
