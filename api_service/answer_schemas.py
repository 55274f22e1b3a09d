"""The shape of answers, for the OpenAPI document: answers are written by orjson, tests compare the two."""

from typing import Any, Final

from marshmallow import Schema, fields

from api_service.problems import PROBLEMS
from api_service.queries import LetterStatus
from shared.model import Channel, FailureClass, OnUnknown, Outcome, Priority, Status


def _text(description: str = "", **metadata: Any) -> fields.String:
    return fields.String(metadata={"description": description} | metadata if description else metadata)


def _word(kind: Any, description: str = "") -> fields.String:
    return _text(description, enum=[str(member) for member in kind])


def _maybe(description: str = "", **metadata: Any) -> fields.String:
    return fields.String(allow_none=True, metadata={"description": description} | metadata)


def _instant(description: str = "") -> fields.String:
    return _text(description or "RFC 3339, UTC", format="date-time")


def _maybe_instant(description: str = "") -> fields.String:
    return _maybe(description or "RFC 3339, UTC", format="date-time")


class AcceptedSchema(Schema):
    """A notification that has been accepted."""

    id = _text(format="uuid")
    status = _word([Status.PENDING, Status.SCHEDULED])
    channel = _word(Channel)
    created_at = _instant()


class ErrorSchema(Schema):
    """One thing that is wrong. It names a place in the body, a query parameter, or a header."""

    pointer = _text("JSON pointer (RFC 6901) into the body.")
    parameter = _text("Name of the query parameter.")
    header = _text("Name of the header.")
    code = _text("Stable, for programs.")
    detail = _text("For people.")


class ProblemSchema(Schema):
    """An error (RFC 9457)."""

    type = _text(format="uri")
    title = _text()
    status = fields.Integer()
    detail = _text()
    code = _text("Stable, for programs.", enum=sorted(PROBLEMS))
    request_id = _text("The id under which this request is logged.")
    errors = fields.List(fields.Nested(ErrorSchema), metadata={"description": "At most the first hundred."})
    state = _text("Where the resource stands, for wrong_state.")


class ItemResultSchema(AcceptedSchema):
    """What became of one item of a batch: the fields of an accepted notification, or a problem."""

    index = fields.Integer(metadata={"description": "The item's place in the batch, from 0."})
    problem = fields.Nested(ProblemSchema)


class BatchAcceptedSchema(Schema):
    """What became of a batch: notifications, or with atomic=false results."""

    accepted = fields.Integer()
    notifications = fields.List(fields.Nested(AcceptedSchema))
    results = fields.List(fields.Nested(ItemResultSchema))


class AttemptSchema(Schema):
    """One try at a provider."""

    attempt = fields.Integer()
    outcome = _word(["begun", *Outcome])
    provider = _maybe()
    destination = _maybe("A webhook's origin, or the SMTP server.")
    reason = _maybe("A constant such as http_503.")
    detail = _maybe()
    receipt = _maybe("What the provider answered.")
    tries = fields.Integer(allow_none=True, metadata={"description": "Calls made within this attempt."})
    began_at = _instant()
    ended_at = _maybe_instant()


class NotificationSummarySchema(Schema):
    """A notification without its content."""

    id = _text(format="uuid")
    status = _word(Status)
    channel = _word(Channel)
    recipient = _text()
    priority = _word(Priority)
    attempt = fields.Integer(metadata={"description": "The attempt that waits, runs, or was the last one; from 1."})
    ordering_key = _maybe()
    on_unknown = _word(OnUnknown)
    scheduled_for = _maybe_instant()
    expires_at = _maybe_instant()
    created_at = _instant()
    updated_at = _instant("When status last changed.")
    correlation_id = _maybe()
    href = _text(format="uri-reference")


class LinkSchema(Schema):
    """Another resource."""

    id = _text(format="uuid")
    href = _text(format="uri-reference")


class NotificationSchema(NotificationSummarySchema):
    """A notification with its content and timeline."""

    subject = _text()
    message = _text()
    payload = fields.Dict()
    headers = fields.Dict(metadata={"description": "Values of headers that look like credentials are hidden."})
    metadata = fields.Dict()
    attempts = fields.List(fields.Nested(AttemptSchema))
    dead_letter = fields.Nested(LinkSchema, allow_none=True)


class _PageSchema(Schema):
    next_cursor = _maybe("Give it as cursor to get the next page.")
    has_more = fields.Boolean()


class NotificationPageSchema(_PageSchema):
    """A page of notifications, newest first."""

    data = fields.List(fields.Nested(NotificationSummarySchema))


class DeadLetterSchema(Schema):
    """A dead letter without its payload."""

    id = _text(format="uuid")
    notification_id = _maybe("Null for bytes nobody can decode.", format="uuid")
    channel = _maybe()
    attempt = fields.Integer()
    message_key = _maybe()
    headers = fields.Dict()
    topic = _maybe()
    partition = fields.Integer(allow_none=True)
    offset = fields.Integer(allow_none=True)
    failure_class = _word(FailureClass)
    reason = _text()
    destination = _maybe()
    fingerprint = _text("Dead letters with one cause share it.")
    first_error = _text()
    error_message = _text()
    retry_count = fields.Integer()
    status = _word(LetterStatus)
    retry_at = _maybe_instant("Null on a failed one: it waits for a person.")
    rest_reason = _maybe()
    first_failed_at = _instant()
    last_failed_at = _instant()
    resolved_at = _maybe_instant()
    resolution = _maybe()
    resolved_by = _maybe()
    resolution_note = _maybe()
    payload_bytes = fields.Integer()
    href = _text(format="uri-reference")
    notification_href = _maybe(format="uri-reference")


class PayloadSchema(Schema):
    """Bytes as they are, but for the values of a record's headers that look like credentials: those are hidden."""

    encoding = _word(["text", "base64"])
    data = _text()


class DeadLetterDetailSchema(DeadLetterSchema):
    """A dead letter with the record as Kafka carried it."""

    original_payload = fields.Nested(PayloadSchema, allow_none=True)
    attempts = fields.List(fields.Nested(AttemptSchema))


class DeadLetterPageSchema(_PageSchema):
    """A page of dead letters, newest first."""

    data = fields.List(fields.Nested(DeadLetterSchema))


class HealthSchema(Schema):
    """Whether the service can work."""

    status = _word(["ok", "unavailable"])
    service = _text()
    checks = fields.Dict()


class ReceivedSchema(Schema):
    """One request that the test receiver has kept."""

    number = fields.Integer()
    received_at = _instant()
    headers = fields.Dict()
    body = fields.Raw()


class InboxSchema(Schema):
    """What the test receiver has kept."""

    data = fields.List(fields.Nested(ReceivedSchema))


class KeptSchema(Schema):
    """The test receiver's receipt."""

    received = fields.Boolean()
    number = fields.Integer()


ALL: Final = (
    AcceptedSchema,
    ProblemSchema,
    BatchAcceptedSchema,
    NotificationSchema,
    NotificationPageSchema,
    DeadLetterSchema,
    DeadLetterDetailSchema,
    DeadLetterPageSchema,
    HealthSchema,
    InboxSchema,
    KeptSchema,
)
"""Those that answers refer to, by their names without `Schema`; what they nest follows by itself."""
