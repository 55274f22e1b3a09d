"""What a person may say about endpoints and signing secrets."""

from collections.abc import Sequence
from typing import Any, Final

from marshmallow import ValidationError

from api_service import addresses, fields, texts
from api_service.faults import Fault, FaultyValueError, FieldFault, field_faults, forget_frames
from api_service.problems import invalid
from api_service.representations import HIDDEN
from api_service.schemas import StrictSchema
from shared.webhook_addresses import Network

MAX_DESCRIPTION_CHARS: Final = 500
DEFAULT_OVERLAP_S: Final = 86_400
MAX_OVERLAP_S: Final = 7 * 86_400


def _description(text: str) -> str:
    if not text.strip() or len(text) > MAX_DESCRIPTION_CHARS:
        raise FaultyValueError("invalid_description", f"1 to {MAX_DESCRIPTION_CHARS} characters")
    return text


def _header_fault(name: str, value: str) -> Fault | None:
    if value == HIDDEN:
        return Fault("hidden_value", "what is shown hides the value: give the value itself")
    return texts.webhook_header_fault(name, value)


_URL: Final = {"format": "uri", "maxLength": addresses.MAX_URL_CHARS, "description": "An http or https URL."}
_DESCRIPTION: Final = {
    "minLength": 1,
    "maxLength": MAX_DESCRIPTION_CHARS,
    "pattern": fields.NOT_BLANK,
    "description": "For people.",
}
_HEADERS: Final = {
    "additionalProperties": {"type": "string", "maxLength": 1024},
    "description": "Sent with each delivery, such as Authorization; stored encrypted, and their values never shown.",
}
_RATE: Final = {"description": "Deliveries a second at most; as many as it takes unless set."}
_TIMEOUT: Final = {"description": "Seconds a delivery may take in all; WEBHOOK_TIMEOUT_S unless set."}


class NewEndpointSchema(StrictSchema):
    """An endpoint to be made."""

    url = fields.Text(addresses.checked_url, required=True, metadata=_URL)
    description = fields.Text(_description, metadata=_DESCRIPTION)
    headers = fields.Headers(_header_fault, metadata=_HEADERS)
    rate_per_s = fields.Number(low=0.1, high=10_000, metadata=_RATE)
    timeout_s = fields.Number(low=0.1, high=120, of="seconds", metadata=_TIMEOUT)


class EndpointChangeSchema(StrictSchema):
    """What changes of an endpoint: at least one field. null takes away what was set; headers are replaced together."""

    url = fields.Text(addresses.checked_url, metadata=_URL)
    description = fields.Text(_description, allow_none=True, metadata=_DESCRIPTION)
    headers = fields.Headers(_header_fault, metadata=_HEADERS)
    rate_per_s = fields.Number(low=0.1, high=10_000, allow_none=True, metadata=_RATE)
    timeout_s = fields.Number(low=0.1, high=120, of="seconds", allow_none=True, metadata=_TIMEOUT)


class RotationSchema(StrictSchema):
    """How a signing secret is replaced."""

    overlap_s = fields.Count(low=0, high=MAX_OVERLAP_S, of="seconds", load_default=DEFAULT_OVERLAP_S, metadata={
        "description": "Seconds that the older secrets sign too; 0: not at all, since somebody knows."})  # fmt: skip


class EmptySchema(StrictSchema):
    """An object without any field."""


NEW: Final = NewEndpointSchema()
CHANGE: Final = EndpointChangeSchema()
ROTATION: Final = RotationSchema()
TEST: Final = EmptySchema()
ALL: Final = (NewEndpointSchema, EndpointChangeSchema, RotationSchema)
"""Those that bodies refer to."""


def load(schema: StrictSchema, body: Any, *, allowed: Sequence[Network] = ()) -> dict[str, Any]:
    """Return what a body says. Raises Problem 400 naming each field that is wrong.

    A URL that is a forbidden address as it stands is wrong too, unless its network is one of those `allowed`.
    """
    faults: list[FieldFault] = []
    try:
        said: dict[str, Any] = schema.load(body)
    except ValidationError as error:
        said, faults = dict(error.valid_data or {}), list(field_faults(error.messages))
        forget_frames(error)
    if "url" in said and (fault := addresses.fault_of_reach(said["url"], allowed)):
        faults.append(FieldFault("/url", fault))
    if schema is CHANGE and not said and not faults:
        faults.append(FieldFault("", Fault("empty", "at least one of " + ", ".join(CHANGE.fields))))
    if faults:
        raise invalid(faults)
    return said
