"""What may be asked for: one marshmallow schema per channel, and `load`, which names everything that is wrong at once.

The schemas are made once; making one costs three times what using it does.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import marshmallow as ma
from marshmallow import RAISE, ValidationError

from api_service import addresses, fields, texts
from api_service.accept import NotificationRequest
from api_service.faults import Fault, FieldFault, field_faults, forget_frames
from api_service.plain import PlainReader
from shared.model import Channel, OnUnknown, Priority

MAX_PAYLOAD_BYTES: Final = 256 * 1024
MAX_METADATA_BYTES: Final = 16 * 1024
SCHEDULE_WITHIN: Final = timedelta(days=366)
SCHEDULE_GRACE: Final = timedelta(seconds=5)
EXPIRE_WITHIN: Final = timedelta(days=732)
MAX_FIELDS: Final = 50
"""Of one object that is read field by field; each unknown one is a fault of its own, and is looked for and named."""


class InvalidRequestError(Exception):
    """A body does not say what to send; `faults` names each field that is wrong."""

    def __init__(self, faults: list[FieldFault]) -> None:
        super().__init__(f"{len(faults)} faults")
        self.faults = faults


class StrictSchema(ma.Schema):
    """A JSON object without fields that are not declared; one with far too many is not gone through."""

    class Meta:  # noqa: D106 - marshmallow's own
        unknown = RAISE

    error_messages: dict[str, str] = {  # noqa: RUF012 - marshmallow declares it so
        "unknown": Fault("unknown_field", "there is no such field"),
        "type": Fault("not_an_object", "an object is expected"),
    }

    def load(self, data: Any, **options: Any) -> Any:
        """Return what an object says. Raises ValidationError."""
        if type(data) is dict and len(data) > MAX_FIELDS:
            raise ValidationError({"_schema": [Fault("too_many_fields", f"an object has at most {MAX_FIELDS} fields")]})
        return super().load(data, **options)


class _Request(StrictSchema):
    message = fields.Text(
        texts.checked_message,
        required=True,
        metadata={
            "minLength": 1,
            "maxLength": texts.MAX_MESSAGE_BYTES,
            "pattern": fields.NOT_BLANK,
            "description": "What to say; at most 256 KiB as JSON in UTF-8.",
        },
    )
    ordering_key = fields.Text(
        texts.checked_ordering_key,
        metadata={
            "minLength": 1,
            "maxLength": texts.MAX_ORDERING_KEY_CHARS,
            "description": "Notifications with one key are first attempted one at a time, in the order accepted.",
        },
    )
    scheduled_for = fields.FutureInstant(
        within=SCHEDULE_WITHIN,
        grace=SCHEDULE_GRACE,
        metadata={"description": "No attempt before this instant; at most 366 days ahead, RFC 3339 with offset."},
    )
    expires_at = fields.FutureInstant(
        within=EXPIRE_WITHIN,
        grace=timedelta(0),
        metadata={"description": "No attempt after this instant; later than scheduled_for. Excludes expires_in."},
    )
    expires_in = fields.Seconds(
        high=int(EXPIRE_WITHIN.total_seconds()),
        metadata={
            "exclusiveMinimum": 0,
            "maximum": int(EXPIRE_WITHIN.total_seconds()),
            "description": "Seconds from now after which no attempt is made. Excludes expires_at.",
        },
    )
    priority = fields.Word(
        Priority,
        also={"medium": Priority.NORMAL},
        metadata={
            "enum": [*Priority, "medium"],
            "default": "normal",
            "description": "high and urgent overtake the others, unless an ordering_key is given; medium is normal.",
        },
    )
    metadata = fields.Members(
        max_bytes=MAX_METADATA_BYTES,
        metadata={"description": "Yours: kept, shown, and handed to webhook receivers; at most 16 KiB as JSON."},
    )
    on_unknown = fields.Word(
        OnUnknown,
        metadata={
            "default": "retry",
            "description": "After an attempt that may or may not have arrived: retry it (a duplicate is "
            "possible), or hold it for a person.",
        },
    )


class EmailSchema(_Request):
    """An e-mail."""

    channel = fields.Word(Channel, required=True, metadata={"enum": ["email"]})
    recipient = fields.Text(
        addresses.checked_email,
        required=True,
        metadata={"format": "email", "maxLength": 254, "description": "Exactly one address, without a display name."},
    )
    sender = fields.Text(
        addresses.checked_sender,
        metadata={
            "maxLength": addresses.MAX_SENDER_CHARS,
            "description": "Who it is from, `Name <name@example.com>` or the address alone, of a domain that is "
            "verified (POST /sender-domains); the installation's own unless given.",
        },
    )
    subject = fields.Text(texts.checked_subject, metadata={"maxLength": texts.MAX_SUBJECT_CHARS})
    headers = fields.Headers(
        texts.email_header_fault,
        metadata={
            "additionalProperties": {"type": "string", "maxLength": 1024},
            "description": "Custom headers; names begin with X-.",
        },
    )


class WebhookSchema(_Request):
    """A webhook: a signed POST."""

    channel = fields.Word(Channel, required=True, metadata={"enum": ["webhook"]})
    recipient = fields.Text(
        addresses.checked_url,
        metadata={
            "format": "uri",
            "maxLength": addresses.MAX_URL_CHARS,
            "description": "An http or https URL; may be left out where NOTIFICATION_WEBHOOK_URL is set.",
        },
    )
    endpoint = fields.Text(
        addresses.checked_endpoint,
        metadata={
            "pattern": "^ep_[0-9a-f]{32}$",
            "description": "In place of recipient: an endpoint that was made by POST /endpoints.",
        },
    )
    payload = fields.Members(
        max_bytes=MAX_PAYLOAD_BYTES, metadata={"description": "Handed to the receiver unchanged as data.payload."}
    )
    headers = fields.Headers(
        texts.webhook_header_fault,
        metadata={
            "additionalProperties": {"type": "string", "maxLength": 1024},
            "description": "Sent along, such as Authorization; not those of the connection or of the signature.",
        },
    )


class _AnyChannelSchema(_Request):
    class Meta:
        unknown = ma.INCLUDE

    channel = fields.Word(Channel, required=True)


_SCHEMAS: Final[dict[Any, ma.Schema]] = {Channel.EMAIL: EmailSchema(), Channel.WEBHOOK: WebhookSchema()}
_ANY_CHANNEL: Final = _AnyChannelSchema()
_PLAIN: Final[dict[Any, PlainReader]] = {
    Channel.EMAIL: PlainReader(Channel.EMAIL, addresses.checked_email, EmailSchema()),
    Channel.WEBHOOK: PlainReader(Channel.WEBHOOK, addresses.checked_url, WebhookSchema()),
}
_ELSEWHERE: Final = {"subject": "e-mails", "sender": "e-mails", "payload": "webhooks", "endpoint": "webhooks"}


def load(body: Any, *, default_webhook_url: str | None = None) -> NotificationRequest:
    """Return the request in a parsed body. Raises InvalidRequestError with every fault.

    What is plainly right is not shown to the schemas, which would say the same after ten times as long.
    """
    return plainly_right(body, default_webhook_url) or judged(body, default_webhook_url)


def plainly_right(body: Any, default_webhook_url: str | None = None) -> NotificationRequest | None:
    """Return the request in a parsed body that leaves no doubt, None for any other."""
    channel = body.get("channel") if type(body) is dict else None
    reader = _PLAIN.get(channel) if type(channel) is str else None
    if reader is None:
        return None
    return reader.read(body, default_webhook_url if channel == Channel.WEBHOOK else None)


def judged(body: Any, default_webhook_url: str | None = None) -> NotificationRequest:
    """Return the request in a parsed body as the schemas see it. Raises InvalidRequestError with every fault."""
    if type(body) is not dict:
        raise InvalidRequestError([FieldFault("", Fault("not_an_object", "an object is expected"))])
    channel = body.get("channel")
    schema = _SCHEMAS.get(channel.lower() if type(channel) is str else None, _ANY_CHANNEL)
    try:
        data, messages = dict(schema.load(body)), {}
    except ValidationError as error:
        data, messages = dict(error.valid_data or {}), _explained(error.messages)
        forget_frames(error)
    if "endpoint" in body and "recipient" in body:
        messages.setdefault("endpoint", [Fault("exclusive", "give recipient or endpoint, not both")])
    elif "endpoint" in data:
        data["recipient"] = data.pop("endpoint")
    elif data.get("channel") is Channel.WEBHOOK and "recipient" not in body and "endpoint" not in body:
        if default_webhook_url is None:
            messages["recipient"] = [Fault("required", "a webhook needs a URL: this service has no default one")]
        data["recipient"] = default_webhook_url
    _check_times(data, messages)
    if messages:
        raise InvalidRequestError(list(field_faults(messages)))
    data["expires_in_s"] = data.pop("expires_in", None)
    return NotificationRequest(**data)


def _explained(messages: Any) -> dict[str, Any]:
    """Say of a field that exists for another channel that it does."""
    for name, owner in _ELSEWHERE.items():
        if [getattr(fault, "code", None) for fault in messages.get(name, ())] == ["unknown_field"]:
            messages[name] = [Fault("not_for_this_channel", f"this field is for {owner}")]
    return dict(messages)


def _check_times(data: dict[str, Any], messages: dict[str, Any]) -> None:
    scheduled_for, expires_at, expires_in = map(data.get, ("scheduled_for", "expires_at", "expires_in"))
    if expires_in is not None and expires_at is not None:
        messages["expires_in"] = [Fault("exclusive", "give expires_at or expires_in, not both")]
    elif scheduled_for is not None and expires_in is not None:
        # Both by this clock: PostgreSQL's could be just so far behind that the row would be refused.
        data["expires_at"] = datetime.now(UTC) + timedelta(seconds=data.pop("expires_in"))
        if data["expires_at"] <= scheduled_for:
            messages["expires_in"] = [Fault("before_schedule", "it would expire before it is due")]
    elif scheduled_for is not None and expires_at is not None and expires_at <= scheduled_for:
        messages["expires_at"] = [Fault("before_schedule", "expires_at must be later than scheduled_for")]
