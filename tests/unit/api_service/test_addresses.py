"""The quick check of common addresses agrees with the library it saves."""

from email_validator import validate_email
from hypothesis import given, settings
from hypothesis import strategies as st

from api_service import addresses


@settings(max_examples=300)
@given(st.from_regex(addresses._PLAIN_EMAIL, fullmatch=True))
def test_what_the_quick_check_takes_the_library_takes_unchanged(address: str) -> None:
    """It is a short cut, not a second opinion."""
    parsed = validate_email(address, check_deliverability=False, allow_smtputf8=False)

    assert parsed.ascii_email == address
