"""Standard Webhooks 1.0 signatures: HMAC-SHA256 over id, timestamp and the exact bytes of the body."""

import base64
import hmac
from collections.abc import Sequence


def signature(keys: Sequence[bytes], *, webhook_id: str, timestamp: int, body: bytes) -> str:
    """Return the webhook-signature header: one `v1,<base64>` per key, so that a receiver may rotate its secret.

    `timestamp` is the attempt's, in Unix seconds. Raises ValueError for an id with a dot, the separator of what is
    signed. Source: standard-webhooks spec 1.0.0, section "Signature scheme".
    """
    if "." in webhook_id:
        raise ValueError("a dot in the id would let two messages share a signature")
    signed = b"%b.%d.%b" % (webhook_id.encode(), timestamp, body)
    return " ".join(f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}" for key in keys)
