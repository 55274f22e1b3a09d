"""The shape of answers about dead letters, for the OpenAPI document."""

from typing import Final

from marshmallow import Schema, fields

from api_service.answer_fields import PageSchema, instant, maybe, maybe_instant, text, word
from api_service.answer_schemas import AttemptSchema
from api_service.queries import LetterStatus, RetryStatus
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
    retry_id = maybe("The bulk retry that took it last.", format="uuid")
    payload_bytes = fields.Integer()
    href = text(format="uri-reference")
    notification_href = maybe(format="uri-reference")


class PayloadSchema(Schema):
    """Bytes as they are, but for the values of a record's headers that look like credentials: those are hidden."""

    encoding = word(["text", "base64"])
    data = text()


class ActionSchema(Schema):
    """What a person did about a dead letter."""

    action = word(["retried", "discarded", "retried_by_filter"])
    at = instant()
    by = text()
    note = maybe()
    attempt = fields.Integer(allow_none=True, metadata={"description": "The attempt that a retry began."})
    retry_id = maybe("The bulk retry, for retried_by_filter.", format="uuid")
    outcome = maybe("How that attempt ended, noted for bulk retries.")


class DeadLetterWithActionsSchema(DeadLetterSchema):
    """A dead letter with what persons did about it, first to last."""

    actions = fields.List(fields.Nested(ActionSchema))


class DeadLetterDetailSchema(DeadLetterWithActionsSchema):
    """A dead letter with the record as Kafka carried it, and its history."""

    original_payload = fields.Nested(PayloadSchema, allow_none=True)
    attempts = fields.List(fields.Nested(AttemptSchema))


class DeadLetterPageSchema(PageSchema):
    """A page of dead letters, newest first."""

    data = fields.List(fields.Nested(DeadLetterSchema))


class DeadLetterGroupSchema(Schema):
    """Dead letters with one cause."""

    fingerprint = text("What a retry of the group filters by.")
    failure_class = word(FailureClass)
    destination = maybe("A webhook's scheme, host and port, or the SMTP server.")
    reason = text("A constant such as http_503.")
    count = fields.Integer()
    retrying = fields.Integer(metadata={"description": "Those that are tried again by themselves."})
    at_rest = fields.Integer(metadata={"description": "Those that wait for a person."})
    first_failed_at = instant("When the first of them failed for the first time.")
    last_failed_at = instant("When the last of them failed for the last time.")
    next_retry_at = maybe_instant("When the next of them is tried again.")
    example_ids = fields.List(text(format="uuid"), metadata={"description": "Up to three, those that failed last."})


class DeadLetterGroupsSchema(Schema):
    """Dead letters by their cause, the largest groups first."""

    data = fields.List(fields.Nested(DeadLetterGroupSchema))
    groups = fields.Integer(metadata={"description": "How many groups there are, shown or not."})
    has_more = fields.Boolean()


class SelectedSchema(Schema):
    """The conditions of a bulk retry that were given."""

    failure_class = word(FailureClass)
    channel = text()
    fingerprint = text()
    reason = text()
    destination = text()
    failed_from = instant()
    failed_to = instant()


class CauseCountSchema(Schema):
    """How many dead letters have one cause."""

    fingerprint = text()
    count = fields.Integer()


class BulkRetryPreviewSchema(Schema):
    """What a bulk retry would take, and what it could not."""

    dry_run = fields.Boolean()
    filter = fields.Nested(SelectedSchema)
    matched = fields.Integer(metadata={"description": "How many it would send again."})
    cannot_be_sent = fields.Integer(metadata={
        "description": "How many fit the filter and are never taken: bytes nobody can decode name no notification, "
        "and some notifications have moved on."})  # fmt: skip
    dead_letter_ids = fields.List(text(format="uuid"), metadata={"description": "The first ten it would send."})
    groups = fields.List(fields.Nested(CauseCountSchema), metadata={"description": "The ten largest causes."})


class BulkRetrySummarySchema(Schema):
    """A bulk retry as it stands."""

    id = text(format="uuid")
    status = word(RetryStatus, "stopped: a canary failed, so the others were left alone.")
    filter = fields.Nested(SelectedSchema)
    rate_per_s = fields.Float()
    canary = fields.Integer()
    by = text()
    note = maybe()
    matched = fields.Integer(metadata={"description": "How many fitted when it was created."})
    retried = fields.Integer(metadata={"description": "How many it has published again."})
    under_way = fields.Integer(metadata={"description": "How many of those have not ended."})
    sent = fields.Integer()
    failed = fields.Integer(metadata={"description": "How many failed again; they are dead letters as before."})
    ended_otherwise = fields.Integer(metadata={"description": "Cancelled, expired or suppressed on the way."})
    stop_reason = maybe(enum=["canary_failed", None])
    created_at = instant("It takes what had failed before this instant.")
    finished_at = maybe_instant("When it was done, stopped or cancelled.")
    ended_by = maybe("Who cancelled it.")
    ended_note = maybe()
    href = text(format="uri-reference")


class FailureSchema(CauseCountSchema):
    """What of a bulk retry failed for one cause."""

    example_ids = fields.List(text(format="uuid"))


class BulkRetryAnswerSchema(BulkRetrySummarySchema):
    """A bulk retry with what of it failed."""

    failures = fields.List(fields.Nested(FailureSchema), metadata={"description": "The ten largest causes."})


class BulkRetryPageSchema(PageSchema):
    """A page of bulk retries, newest first."""

    data = fields.List(fields.Nested(BulkRetrySummarySchema))


ALL: Final = (
    DeadLetterSchema,
    DeadLetterWithActionsSchema,
    DeadLetterDetailSchema,
    DeadLetterPageSchema,
    DeadLetterGroupsSchema,
    BulkRetryPreviewSchema,
    BulkRetrySummarySchema,
    BulkRetryAnswerSchema,
    BulkRetryPageSchema,
)
"""Those that answers refer to."""
