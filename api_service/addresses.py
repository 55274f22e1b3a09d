"""Recipients: which e-mail addresses and webhook URLs are accepted, and in what form they are stored.

No name is resolved here. Whether a webhook's address may be reached is decided when it is connected to: a name may
resolve to anything by then.
"""

import ipaddress
import re
import socket
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from email_validator import EmailNotValidError, validate_email

from api_service.faults import Fault, FaultyValueError
from shared.endpoints import endpoint_id
from shared.mailboxes import mailbox, split_mailbox
from shared.webhook_addresses import Network, is_forbidden
from shared.webhooks import PORTS_WITHOUT_HTTP

MAX_URL_CHARS: Final = 2048
MAX_SENDER_CHARS: Final = 320
NO_ENDPOINT: Final = Fault("unknown_endpoint", "there is no endpoint with this id")
_MAX_EMAIL_CHARS: Final = 254  # RFC 5321 §4.5.3.1.3: a path of 256, less its angle brackets
_MAX_LOCAL_CHARS: Final = 64
_CONTROL: Final = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029]")
_URL_CHARS: Final = re.compile(r"[!#-;=?-\[\]_a-z~]+")  # RFC 3986: printable ASCII less " < > \ ^ ` { | }
_HOST_NAME: Final = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*"
                               r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.?", re.IGNORECASE)  # fmt: skip
# Addresses that the full checks would return unchanged, in a tenth of their time; tests compare the two.
_PLAIN_EMAIL: Final = re.compile(
    r"[a-z0-9][a-z0-9_+-]*+(?:\.[a-z0-9_+-]++)*+@(?:[a-z0-9]{1,62}\.){1,3}(?:com|org|net|io|dev|de|fr|eu|uk)"
)
_PLAIN_URL: Final = re.compile(
    r"https?://(?:[a-z0-9][a-z0-9-]{0,61}(?<!-)\.){1,4}[a-z]{2,20}(?::8[0-9]{3})?"
    r"(?:/[A-Za-z0-9._~/%=&?:@+,;-]*)?"
)


def checked_email(address: str) -> str:
    """Return one address as it is stored: domain in ASCII (IDNA) and lower case. Raises FaultyValueError.

    Refused on purpose: quoted local parts (they may hold line breaks), address literals, display names, comments, and
    local parts outside ASCII, which need SMTPUTF8 at every server on the way.
    """
    if len(address) > _MAX_EMAIL_CHARS:
        raise FaultyValueError("too_long", f"an e-mail address has at most {_MAX_EMAIL_CHARS} characters")
    if address.find("@") > _MAX_LOCAL_CHARS:
        raise FaultyValueError("invalid_email", f"before the @ there are at most {_MAX_LOCAL_CHARS} characters")
    if _PLAIN_EMAIL.fullmatch(address):
        return address
    if _CONTROL.search(address):
        raise FaultyValueError("invalid_email", "not an e-mail address: blanks and control characters are not allowed")
    try:
        parsed = validate_email(address, check_deliverability=False, allow_smtputf8=False)
    except EmailNotValidError as error:
        raise FaultyValueError("invalid_email", "not exactly one e-mail address such as name@example.com") from error
    return parsed.ascii_email or parsed.normalized


def checked_sender(text: str) -> str:
    """Return who an e-mail is from as it is stored: an address, or a name and an address. Raises FaultyValueError.

    The name is one plain line; it is stored without quotes, and what would need them is encoded when it is sent.
    """
    if len(text) > MAX_SENDER_CHARS:
        raise FaultyValueError("too_long", f"a sender has at most {MAX_SENDER_CHARS} characters")
    name, address = split_mailbox(text)
    if not text.isprintable() or "=?" in text:
        raise FaultyValueError("invalid_sender", "a sender is one plain line; encoded words (=?...?=) are refused")
    if mailbox(name, address) != text or name != name.strip() or any(mark in name for mark in '"<>'):
        raise FaultyValueError("invalid_sender", "an address, or a name without quotes and the address in <>")
    return mailbox(name, checked_email(address))


def checked_domain(text: str) -> str:
    """Return a domain that e-mail may be from, in ASCII (IDNA) and lower case. Raises FaultyValueError."""
    try:
        if "@" not in text:
            return checked_email(f"postmaster@{text}").rpartition("@")[2]
    except FaultyValueError:
        pass
    raise FaultyValueError("invalid_domain", "not a domain such as example.com")


def checked_url(url: str) -> str:
    """Return an absolute http or https URL unchanged. Raises FaultyValueError.

    ASCII alone: a host outside ASCII is written in its xn-- form, so that what is checked is what is connected to.
    """
    if len(url) > MAX_URL_CHARS:
        raise FaultyValueError("too_long", f"a URL has at most {MAX_URL_CHARS} characters")
    if _PLAIN_URL.fullmatch(url):
        return url
    if not _URL_CHARS.fullmatch(url):
        raise FaultyValueError("invalid_url", "a URL holds printable ASCII characters; others are percent-encoded")
    _check_parts(url)
    return url


def fault_of_reach(url: str, allowed: Sequence[Network]) -> Fault | None:
    """Say that a URL, which is one, names an address that webhooks do not go to; None where it does not, or a name.

    A word in time for whoever types it, and no guard: what a name resolves to is looked at when it is connected to.
    """
    parts = urlsplit(url)
    address = _address_of(parts.hostname or "")
    if address is None or not is_forbidden(address, parts.port or (443 if parts.scheme == "https" else 80), allowed):
        return None
    return Fault("forbidden_address", "no webhook goes to this address: its operator has not allowed its network")


def _address_of(host: str) -> str | None:
    """Return the address that a host is, in any spelling that resolvers take for one; None for a name."""
    name = host.rstrip(".").lower()
    if ":" in name:
        return name
    if name == "localhost" or name.endswith(".localhost"):
        return "127.0.0.1"
    if not re.fullmatch(r"[0-9]+|0x[0-9a-f]*", name.rpartition(".")[2]):
        return None
    try:
        return socket.inet_ntoa(socket.inet_aton(name))
    except OSError:
        return name  # ends like an address and is none: nothing to be reached


def checked_endpoint(name: str) -> str:
    """Return the name of an endpoint that there may be. Raises FaultyValueError, as for one that is not there."""
    if endpoint_id(name) is None:
        raise FaultyValueError(NO_ENDPOINT.code, NO_ENDPOINT)
    return name


def _check_parts(url: str) -> None:
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise FaultyValueError("invalid_url", "not a URL: its host or port cannot be read") from error
    if parts.scheme not in ("http", "https") or not url[len(parts.scheme) :].startswith("://"):
        raise FaultyValueError("invalid_url", "an absolute URL that begins with http:// or https://")
    if "@" in parts.netloc:
        raise FaultyValueError("url_with_credentials", "a URL must not hold a user name or password")
    if "#" in url:
        raise FaultyValueError("url_with_fragment", "a URL must not have a fragment")
    if port == 0 or parts.netloc.endswith(":"):
        raise FaultyValueError("invalid_url", "a port is a number from 1 to 65535")
    if port in PORTS_WITHOUT_HTTP:
        raise FaultyValueError("port_not_allowed", "this port speaks something other than HTTP")
    if not host or not _is_host(host):
        raise FaultyValueError("invalid_url", "a URL needs a host name or address")


def _is_host(host: str) -> bool:
    if ":" not in host:
        return _HOST_NAME.fullmatch(host) is not None
    try:
        return ipaddress.IPv6Address(host).scope_id is None
    except ValueError:
        return False
