"""What a person may say about dead letters."""

from typing import Final

from api_service import fields
from api_service.faults import FaultyValueError
from api_service.schemas import StrictSchema

MAX_REASON_CHARS: Final = 500


def _reason(text: str) -> str:
    if not text.strip() or len(text) > MAX_REASON_CHARS:
        raise FaultyValueError("invalid_reason", f"1 to {MAX_REASON_CHARS} characters")
    return text


class DiscardSchema(StrictSchema):
    """Why a dead letter is not tried again."""

    reason = fields.Text(_reason, required=True, metadata={"minLength": 1, "maxLength": MAX_REASON_CHARS})


DISCARD: Final = DiscardSchema()
