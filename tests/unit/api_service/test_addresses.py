"""The quick checks of common addresses agree with the full ones that they save."""

from email_validator import validate_email
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from api_service import addresses


@settings(max_examples=300)
@given(st.from_regex(addresses._PLAIN_EMAIL, fullmatch=True))
@example("www@example.com")
@example("a" * 64 + "@example.com")
def test_what_the_quick_check_takes_the_library_takes_unchanged(address: str) -> None:
    """It is a short cut, not a second opinion."""
    assume(len(address) <= addresses._MAX_EMAIL_CHARS and address.find("@") <= addresses._MAX_LOCAL_CHARS)

    parsed = validate_email(address, check_deliverability=False, allow_smtputf8=False)

    assert addresses.checked_email(address) == parsed.ascii_email


@settings(max_examples=300)
@given(st.from_regex(addresses._PLAIN_URL, fullmatch=True))
def test_a_url_that_the_quick_check_takes_passes_the_full_one(url: str) -> None:
    """Part by part."""
    assert addresses._URL_CHARS.fullmatch(url)

    addresses._check_parts(url)


def test_the_mailboxes_whose_names_are_the_same_in_any_case_are_stored_in_one() -> None:
    """RFC 2142."""
    assert addresses.checked_email("Postmaster@example.com") == "postmaster@example.com"
