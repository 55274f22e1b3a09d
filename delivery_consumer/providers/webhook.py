"""Webhooks: a signed POST, and what each answer means."""

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

import httpx
import orjson

from delivery_consumer.destinations import Limits
from delivery_consumer.errors import PermanentDeliveryError, TransientDeliveryError, UnknownOutcomeError
from delivery_consumer.providers import FRESH_S, Attempt, Place, Receipt
from delivery_consumer.providers.connecting import Connector, ForbiddenAddressError, NoAnswerError, NotSentError
from delivery_consumer.providers.endpoints import ENDPOINT, Endpoint, Endpoints
from delivery_consumer.providers.http1 import BadRequestError
from delivery_consumer.providers.signing import signature
from delivery_consumer.providers.transport import Answer, OriginTransport, Target, origin_of
from delivery_consumer.settings import WebhookSettings
from shared.records import Record
from shared.webhooks import is_header_of_ours

USER_AGENT: Final = "notification-pipeline/1"
MAX_RETRY_AFTER_S: Final = 86_400.0
WAITING: Final = 200
_TRANSIENT: Final = frozenset({408, 425, 429})
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}")


class Transport(Protocol):
    """What posts: OriginTransport, or what stands in for it."""

    async def post(
        self,
        target: Target,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        *,
        tenant_id: str = "",
        timeout_s: float | None = None,
    ) -> Answer:
        """Post a body once. Raises NotSentError, NoAnswerError or BadRequestError."""
        ...

    async def aclose(self) -> None:
        """Close idle connections."""
        ...


class WebhookProvider:
    """Posts notifications to URLs, and to endpoints: URLs with a name, and with secrets, headers, a rate of their own.

    2xx is accepted. 408, 425, 429 and 5xx are transient, and their Retry-After is passed on. Everything else is
    permanent: 410 by the specification, which also suppresses the URL; a redirect because following it would let a
    receiver send our signed content anywhere; other 4xx because the same bytes would be refused again. Silence after
    the last byte is unknown.
    """

    name = "webhook"

    def __init__(
        self,
        settings: WebhookSettings,
        *,
        transport: Transport | None = None,
        directory: Endpoints | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keys, self.directory, self._now = settings.secrets, directory, now
        self.timeout_s = settings.timeout_s
        self.limits = Limits(slots=settings.concurrency, first_slots=1, waiting=WAITING)
        self._transport = transport or OriginTransport(
            Connector(allowed=settings.allowed_networks), timeout_s=settings.timeout_s
        )

    def place(self, record: Record, *, looked_up: bool = False) -> Place | None:
        """Return the origin, such as https://example.org:443; None for an endpoint that was not looked up lately."""
        if self.directory is None or not record.recipient.startswith(ENDPOINT):
            return _read_url(record.recipient).place
        if not (looked_up or self.directory.is_known(record, within_s=FRESH_S)):
            return None
        endpoint = self.directory.endpoint(record)
        return Place(_read_url(endpoint.url).place.destination, endpoint.rate)

    async def send(self, record: Record, attempt: Attempt) -> Receipt:
        """Post one notification."""
        endpoint = self._endpoint(record)
        url, body = _read_url(endpoint.url if endpoint else record.recipient), body_of(record)
        own = _with_those_of(endpoint, record.headers) if endpoint else record.headers
        headers = [*_custom_headers(own), *url.headers, *self._headers_of(record, attempt, body)]
        try:
            answer = await self._transport.post(
                url.target,
                headers,
                body,
                tenant_id=record.tenant_id,
                timeout_s=endpoint.timeout_s if endpoint else None,
            )
        except ForbiddenAddressError as error:
            raise PermanentDeliveryError(error.reason) from error
        except NotSentError as error:
            raise TransientDeliveryError(error.reason) from error
        except NoAnswerError as error:
            raise UnknownOutcomeError(error.reason) from error
        except BadRequestError as error:
            raise PermanentDeliveryError("bad_request") from error
        return _judge(answer, self._now())

    def _endpoint(self, record: Record) -> Endpoint | None:
        """Return the endpoint that is a record's recipient; None where a URL is."""
        if self.directory is None or not record.recipient.startswith(ENDPOINT):
            return None
        return self.directory.endpoint(record)

    def _headers_of(self, record: Record, attempt: Attempt, body: bytes) -> list[tuple[bytes, bytes]]:
        """Return what an attempt adds: the same each time but for its number, its timestamp and its signature."""
        timestamp = int(self._now())
        keys = self._keys if self.directory is None else self.directory.keys(record)
        signed = signature(keys, webhook_id=record.id, timestamp=timestamp, body=body)
        headers = [
            (b"Content-Length", b"%d" % len(body)),
            (b"webhook-id", record.id.encode()),
            (b"webhook-timestamp", b"%d" % timestamp),
            (b"webhook-signature", signed.encode()),
            (b"notification-attempt", b"%d" % attempt.number),
        ]
        if attempt.traceparent:
            headers.append((b"traceparent", attempt.traceparent.encode()))
        return headers

    async def aclose(self) -> None:
        """Close idle connections."""
        await self._transport.aclose()


def body_of(record: Record) -> bytes:
    """Return the bytes every attempt posts. Raises PermanentDeliveryError where they cannot be made."""
    body = {
        "type": "notification",
        "timestamp": record.created_at,
        "data": {
            "id": record.id,
            "subject": record.subject,
            "message": record.message,
            "payload": record.payload,
            "metadata": record.metadata,
        },
    }
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:  # nested deeper than the API accepts
        raise PermanentDeliveryError("bad_payload") from error


def retry_after_s(value: str | None, now: float) -> float | None:
    """Read a Retry-After header, seconds or an HTTP date; at most a day, None for what makes no sense."""
    if not value:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), MAX_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    delay_s = (at - datetime.fromtimestamp(now, UTC)).total_seconds()
    return min(delay_s, MAX_RETRY_AFTER_S) if math.isfinite(delay_s) and delay_s > 0 else None


def _judge(answer: Answer, now: float) -> Receipt:
    status = answer.status
    reason = f"http_{status}"
    if 200 <= status < 300:
        return Receipt(reason)
    if status >= 500 or status in _TRANSIENT:
        asked = next((value.decode("latin-1") for name, value in answer.headers if name == b"retry-after"), None)
        delay_s = retry_after_s(asked, now)
        raise TransientDeliveryError(reason, retry_after_s=delay_s, answered=True)
    raise PermanentDeliveryError(reason, answered=True, suppress="gone" if status == 410 else None)


def _with_those_of(endpoint: Endpoint, given: Mapping[str, str]) -> Mapping[str, str]:
    """Add an endpoint's headers, which win: an admin set them, and who may send must not replace credentials."""
    if not endpoint.headers:
        return given
    names = {name.lower() for name in endpoint.headers}
    return {name: value for name, value in given.items() if name.lower() not in names} | endpoint.headers


def _custom_headers(given: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    headers = []
    for name, value in given.items():
        if is_header_of_ours(name.lower()):
            continue
        if not (isinstance(value, str) and _NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            raise PermanentDeliveryError("bad_header")
        headers.append((name.encode(), value.strip().encode()))
    return headers


class _Url(NamedTuple):
    """What a URL comes to."""

    target: Target
    place: Place
    headers: tuple[tuple[bytes, bytes], ...]  # of every request


@lru_cache(maxsize=4096)
def _read_url(text: str) -> _Url:
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError, UnicodeError) as error:
        raise PermanentDeliveryError("bad_url") from error
    scheme, host, port = origin = origin_of(url)
    if scheme not in ("http", "https") or not _HOST.fullmatch(host) or url.userinfo or port > 65_535:
        raise PermanentDeliveryError("bad_url")
    headers = (
        (b"Host", url.netloc),
        (b"Content-Type", b"application/json"),
        (b"User-Agent", USER_AGENT.encode()),
        (b"Accept-Encoding", b"identity"),
    )
    name = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    return _Url(Target(origin, url.raw_path), Place(name), headers)
