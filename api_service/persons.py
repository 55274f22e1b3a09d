"""What a person says about a decision, read alike wherever one is taken: who, and why."""

from typing import Final

from api_service.faults import FaultyValueError

MAX_BY_CHARS: Final = 100
MAX_NOTE_CHARS: Final = 500


def checked_by(text: str) -> str:
    """Return who decides as it is stored. Raises FaultyValueError."""
    if not text.strip() or len(text) > MAX_BY_CHARS or not text.isprintable():
        raise FaultyValueError("invalid_by", f"1 to {MAX_BY_CHARS} printable characters")
    return text


def checked_note(text: str) -> str:
    """Return a reason in a person's words as it is stored. Raises FaultyValueError."""
    if not text.strip() or len(text) > MAX_NOTE_CHARS:
        raise FaultyValueError("invalid_note", f"1 to {MAX_NOTE_CHARS} characters")
    return text
