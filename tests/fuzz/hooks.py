"""What schemathesis is told to accept: rules that a schema cannot state, each by the code that the API answers with.

Loaded by schemathesis in a process of its own (SCHEMATHESIS_HOOKS), which is why nothing else imports it.
"""

import itertools
import json
import os
import re
from typing import Any, Final

import schemathesis

from api_service.idempotency import HEADER, KEY

BEYOND_A_SCHEMA: Final = {
    "before_schedule": "compares two instants",
    "before_start": "compares two instants",
    "in_the_past": "compares an instant with the clock",
    "too_far_ahead": "compares an instant with the clock",
    "exclusive": "one of two fields, never both",
    "idempotency_key_reused": "what the key was first used for",
    "invalid_by": "Unicode's printable characters, which no pattern names alike in all languages",
    "control_character": "the same",
    "invalid_ordering_key": "the same",
    "invalid_header_name": "a token of RFC 9110, as the name of a member",
    "invalid_header_value": "printable ASCII, as the value of any member",
    "header_not_allowed": "names that are ours to set",
    "nul_character": "JSON that PostgreSQL cannot store",
    "integer_too_large": "JSON that readers do not agree on",
    "encoded_word": "what a mail reader would decode",
    "recipient:invalid": "an address, a URL or an id, as stored",
    "fingerprint:invalid": "what another answer shows",
    "invalid_cursor": "an opaque value that another answer has given out",
    "invalid_domain": "IDNA, of which no format is the whole",
    "invalid_sender": "an address, or a name with an address",
    "sender:too_long": "its address has less room than it has with a name",
    "unknown_endpoint": "what the tenant has made",
    "unverified_domain": "what the tenant has shown to be its own",
    "common_password": "rules and a list of words",
    "hidden_value": "what answers show in place of a secret",
    "repeated_name": "names that differ in case alone",
    "url_with_credentials": "parts of a URL",
    "url_with_fragment": "parts of a URL",
    "port_not_allowed": "a list of ports",
    "forbidden_address": "networks that no webhook goes to",
    "invalid_email": "RFC 5321 and IDNA, of which format: email is the beginning",
    "invalid_url": "what RFC 3986 allows and webhooks do not",
}
_CANCELS: Final = "DELETE /api/v1/notifications/"
"""An alias of cancel: the notification is there to be looked at afterwards, as cancelled."""
_LONG: Final = 200  # so that those at their bound stay what they are
_NUMBERS: Final = itertools.count(1)
OWN_KEY: Final = os.environ.get("FUZZ_OWN_KEY")


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Leave the caller its own key, and let most requests with an Idempotency-Key have one of their own.

    A turn that revokes its key, or has its secret changed, sees nothing but 401; and nearly all would be repeats.
    """
    del context, kwargs
    if OWN_KEY and case.method == "POST" and case.path_parameters.get("key_id") == OWN_KEY:
        case.path_parameters["key_id"] = "0" * len(OWN_KEY)
    key = case.headers.get(HEADER)
    if isinstance(key, str) and len(key) < _LONG and re.fullmatch(KEY, key) and (number := next(_NUMBERS)) % 10:
        case.headers[HEADER] = f"{key}-{os.getpid()}-{number}"


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Say whether a failed check is a finding."""
    del context, case
    if type(failure).__name__ == "RejectedPositiveData":
        return not codes_of(response.content) <= BEYOND_A_SCHEMA.keys()
    return not (type(failure).__name__ == "UseAfterFree" and failure.free.startswith(_CANCELS))


def codes_of(body: bytes) -> set[str]:
    """Return the codes of a problem: those of its errors, or its own where it names none."""
    try:
        problem = json.loads(body)
    except ValueError:
        return {"no problem"}
    errors = problem.get("errors") or [problem]
    coded = [(_name_of(error), str(error.get("code"))) for error in errors]
    return {f"{name}:{code}" if f"{name}:{code}" in BEYOND_A_SCHEMA else code for name, code in coded}


def _name_of(error: dict[str, Any]) -> str:
    """Return the name of a parameter, or of the field that a pointer leads to."""
    return str(error.get("parameter") or error.get("pointer", "")).rpartition("/")[2]
