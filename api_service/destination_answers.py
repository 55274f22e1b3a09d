"""The shape of answers about destinations, for the OpenAPI document."""

from typing import Final

from marshmallow import Schema, fields

from api_service.answer_fields import PageSchema, instant, maybe, maybe_instant, text, word
from shared.model import BreakerState, Channel


class _BreakerSchema(Schema):
    breaker = word(BreakerState, "open: not called. half_open: called by one probe at a time.")
    slots_in_use = fields.Integer(metadata={"description": "Calls under way, and those about to begin."})
    slots_allowed = fields.Integer(metadata={"description": "How many there may be: grows with success, from 1."})
    waiting = fields.Integer(metadata={"description": "Notifications that wait for a slot."})
    calls = fields.Integer(metadata={"description": "Of the last 15 to 30 s; the breaker judges by them."})
    failures = fields.Integer(metadata={"description": "How many of these calls failed."})
    last_reason = maybe("Why the last call that was not accepted was not: a constant such as http_503.")
    next_probe_at = maybe_instant("When it is called again; null while the breaker is closed.")
    reported_at = instant("When a consumer last said so.")


class DestinationSchema(_BreakerSchema):
    """A webhook's origin or the mail server, over all delivery consumers: the worst breaker, and sums."""

    destination = text("scheme://host:port, or host:port of the mail server.")
    channel = word(Channel)
    consumer_count = fields.Integer()
    href = text(format="uri-reference")


class SeenByOneSchema(_BreakerSchema):
    """What one delivery consumer holds against a destination."""

    consumer = text("The owner of its attempts.", format="uuid")
    changed_at = instant("When this last changed.")


class DestinationDetailSchema(DestinationSchema):
    """A destination with what each delivery consumer holds against it."""

    consumers = fields.List(fields.Nested(SeenByOneSchema))


class DestinationPageSchema(PageSchema):
    """A page of destinations, by name."""

    data = fields.List(fields.Nested(DestinationSchema))


ALL: Final = (DestinationDetailSchema, DestinationPageSchema)
"""As answer_schemas.ALL."""
