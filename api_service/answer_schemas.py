"""The shape of answers, for the OpenAPI document: answers are written by orjson, tests compare the two."""

from typing import Final

from marshmallow import Schema, fields

from api_service.answer_fields import PageSchema, instant, maybe, maybe_instant, text, word
from api_service.problems import PROBLEMS
from api_service.queries import SuppressionReason
from api_service.sender_domain_schemas import DnsRecordSchema
from shared.model import Channel, OnUnknown, Outcome, Priority, Status

_WARNINGS: Final = ["mixed_script", "look_alike"]
_WARNING: Final = "What is odd about the domain: it mixes scripts, or its letters are easily taken for others."


class AcceptedSchema(Schema):
    """A notification that has been accepted."""

    id = text(format="uuid")
    status = word([Status.PENDING, Status.SCHEDULED])
    channel = word(Channel)
    created_at = instant()
    recipient_warning = text(_WARNING, enum=_WARNINGS)


class ErrorSchema(Schema):
    """One thing that is wrong. It names a place in the body, a query parameter, or a header."""

    pointer = text("JSON pointer (RFC 6901) into the body.")
    parameter = text("Name of the query parameter.")
    header = text("Name of the header.")
    code = text("Stable, for programs.")
    detail = text("For people.")


class ProblemSchema(Schema):
    """An error (RFC 9457)."""

    type = text(format="uri")
    title = text()
    status = fields.Integer()
    detail = text()
    code = text("Stable, for programs.", enum=sorted(PROBLEMS))
    request_id = text("The id under which this request is logged.")
    errors = fields.List(fields.Nested(ErrorSchema), metadata={"description": "At most the first hundred."})
    state = text("Where the resource stands, for wrong_state.")
    record = fields.Nested(DnsRecordSchema, metadata={"description": "What DNS should hold, for not_verified."})
    violated_policies = fields.List(text(), data_key="violated-policies", metadata={
        "description": "Which limits it was, for rate_limited and quota_used_up."})  # fmt: skip
    retry_after_s = fields.Integer(metadata={"description": "As Retry-After, for those two."})


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
    outcome = word(["begun", *Outcome])
    provider = maybe()
    destination = maybe("A webhook's scheme, host and port, or the SMTP server.")
    reason = maybe("A constant such as http_503.")
    detail = maybe()
    receipt = maybe("What the provider answered.")
    tries = fields.Integer(allow_none=True, metadata={"description": "Calls made within this attempt."})
    began_at = instant()
    ended_at = maybe_instant()


class NotificationSummarySchema(Schema):
    """A notification without its content."""

    id = text(format="uuid")
    status = word(Status)
    channel = word(Channel)
    recipient = text()
    recipient_warning = maybe(_WARNING, enum=[*_WARNINGS, None])
    priority = word(Priority)
    attempt = fields.Integer(metadata={"description": "The attempt that waits, runs, or was the last one; from 1."})
    ordering_key = maybe()
    on_unknown = word(OnUnknown)
    scheduled_for = maybe_instant()
    expires_at = maybe_instant()
    created_at = instant()
    updated_at = instant("When status last changed.")
    correlation_id = maybe()
    href = text(format="uri-reference")


class LinkSchema(Schema):
    """Another resource."""

    id = text(format="uuid")
    href = text(format="uri-reference")


class HeldSchema(LinkSchema):
    """The suppression that a notification is held for."""

    reason = word(SuppressionReason)


class NotificationSchema(NotificationSummarySchema):
    """A notification with its content and timeline."""

    subject = text()
    message = text()
    payload = fields.Dict()
    headers = fields.Dict(metadata={"description": "Values of headers that look like credentials are hidden."})
    metadata = fields.Dict()
    attempts = fields.List(fields.Nested(AttemptSchema))
    dead_letter = fields.Nested(LinkSchema, allow_none=True)
    suppression = fields.Nested(
        HeldSchema,
        allow_none=True,
        metadata={"description": "Set while suppressed: lifting it sends the notification."},
    )


class NotificationPageSchema(PageSchema):
    """A page of notifications, newest first."""

    data = fields.List(fields.Nested(NotificationSummarySchema))


class HealthSchema(Schema):
    """Whether the service can work."""

    status = word(["ok", "unavailable"])
    service = text()
    checks = fields.Dict()


class ReceivedSchema(Schema):
    """One request that the test receiver has kept."""

    number = fields.Integer()
    received_at = instant()
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
    HealthSchema,
    InboxSchema,
    KeptSchema,
)
"""Those that answers refer to, by their names without `Schema`; what they nest follows by itself."""
