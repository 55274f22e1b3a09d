"""The shape of answers about dead letters, for the OpenAPI document."""

from typing import Final

from marshmallow import Schema, fields

from api_service.answer_fields import PageSchema, instant, maybe, maybe_instant, text, word
from api_service.answer_schemas import AttemptSchema
from api_service.queries import LetterStatus
from shared.model import FailureClass


class DeadLetterSchema(Schema):
    """A dead letter without its payload."""

    id = text(format="uuid")
    notification_id = maybe("Null for bytes nobody can decode.", format="uuid")
    channel = maybe()
    attempt = fields.Integer()
    message_key = maybe()
    headers = fields.Dict()
    topic = maybe()
    partition = fields.Integer(allow_none=True)
    offset = fields.Integer(allow_none=True)
    failure_class = word(FailureClass)
    reason = text()
    destination = maybe()
    fingerprint = text("Dead letters with one cause share it.")
    first_error = text()
    error_message = text()
    retry_count = fields.Integer()
    status = word(LetterStatus)
    retry_at = maybe_instant("Null on a failed one: it waits for a person.")
    rest_reason = maybe()
    first_failed_at = instant()
    last_failed_at = instant()
    resolved_at = maybe_instant()
    resolution = maybe()
    resolved_by = maybe()
    resolution_note = maybe()
    payload_bytes = fields.Integer()
    href = text(format="uri-reference")
    notification_href = maybe(format="uri-reference")


class PayloadSchema(Schema):
    """Bytes as they are, but for the values of a record's headers that look like credentials: those are hidden."""

    encoding = word(["text", "base64"])
    data = text()


class DeadLetterDetailSchema(DeadLetterSchema):
    """A dead letter with the record as Kafka carried it."""

    original_payload = fields.Nested(PayloadSchema, allow_none=True)
    attempts = fields.List(fields.Nested(AttemptSchema))


class DeadLetterPageSchema(PageSchema):
    """A page of dead letters, newest first."""

    data = fields.List(fields.Nested(DeadLetterSchema))


ALL: Final = (DeadLetterSchema, DeadLetterDetailSchema, DeadLetterPageSchema)
"""Those that answers refer to."""
