"""What a person may say about sender domains, and what is answered."""

from typing import Any, Final

from marshmallow import Schema
from marshmallow import fields as plain

from api_service import addresses, fields
from api_service.answer_fields import instant, maybe_instant, text, word
from api_service.schemas import StrictSchema


class NewSenderDomainSchema(StrictSchema):
    """A domain that e-mail is to be from."""

    domain = fields.Text(
        addresses.checked_domain,
        required=True,
        metadata={"maxLength": 253, "description": "Such as example.com; once verified it covers what is below it."},
    )


class DnsRecordSchema(Schema):
    """What the domain's owner puts into DNS."""

    type = word(("TXT",))
    name = text()
    value = text()


class SenderDomainSchema(Schema):
    """A domain that e-mail may be from, once it is verified."""

    domain = text()
    status = word(("unverified", "verified"))
    record = plain.Nested(DnsRecordSchema)
    created_at = instant()
    verified_at = maybe_instant()
    href = text(format="uri-reference")


class SenderDomainsSchema(Schema):
    """All domains of a tenant, by name."""

    data = plain.List(plain.Nested(SenderDomainSchema))


NEW: Final = NewSenderDomainSchema()
REQUESTS: Final[tuple[Any, ...]] = (NewSenderDomainSchema,)
ANSWERS: Final = (SenderDomainSchema, SenderDomainsSchema)
