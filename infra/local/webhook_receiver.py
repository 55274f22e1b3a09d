"""A webhook receiver that checks signatures, remembers what came, and fails when told to.

    POST /hooks/<name>     a delivery; 200, or what POST /behaviour asked for; 401 when its signature is not right
    POST /behaviour        {"path": "/hooks/x", "status": 503, "times": 3, "retry_after": 1, "delay_s": 0,
                            "mode": "respond" | "hang" | "reset"}; without "times" until it is told otherwise
    GET /behaviour         what is set · DELETE /behaviour[?path=] forgets it
    GET /received          the last deliveries, newest first: ?path= ?id= ?limit= · DELETE /received forgets them
    GET /ids[?path=]       the ids of all notifications accepted, one a line
    GET /stats[?path=]     totals, and the notifications accepted more than once
    POST /secrets          {"secret": "whsec_…"}: one more to verify with, such as an endpoint's; the whole answer that
                           made it will do. Kept in memory only

Secrets are read from WEBHOOK_SECRETS (one or more `whsec_…`, comma); without any signatures are not checked.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import itertools
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import click

from infra.local.behaviour import as_object, checked, is_int, is_seconds, is_times
from infra.local.http_server import (
    Handler,
    Hang,
    Request,
    Reset,
    Response,
    json_response,
    limit_of,
    listen,
    problem,
    until_stopped,
)
from infra.local.tally import Recent, Tally

TOLERANCE_S = 300  # Standard Webhooks 1.0: older or newer timestamps are refused, against replay
_MAX_PATHS = 1_000
_OK = Response(200, b'{"ok":true}\n')

Mode = Literal["respond", "hang", "reset"]
Signature = Literal["ok", "missing", "mismatch", "stale", "unchecked"]


@dataclass(slots=True)
class Behaviour:
    """What a path answers instead of 200, `times` times or until told otherwise (None)."""

    path: str
    status: int = 200
    times: int | None = None
    retry_after: float | None = None
    delay_s: float = 0.0
    mode: Mode = "respond"

    @classmethod
    def parse(cls, content: object) -> "Behaviour":
        """Read the JSON of POST /behaviour. Raises ValueError that names every fault."""
        fields = as_object(content)
        expected = {
            "path": (str(fields.get("path")).startswith("/hooks/"), "a path that begins with /hooks/"),
            "status": (is_int(fields.get("status", 200), 200, 599), "a number from 200 to 599"),
            "times": (is_times(fields.get("times")), "a number from 1, or null"),
            "retry_after": (is_seconds(fields.get("retry_after")), "seconds up to a day, or null"),
            "delay_s": (is_seconds(fields.get("delay_s", 0)), "seconds up to a day"),
            "mode": (fields.get("mode", "respond") in get_args(Mode), "respond, hang or reset"),
        }
        return cls(**{**checked(fields, expected), "delay_s": fields.get("delay_s") or 0.0})

    def answer(self) -> Response | Hang | Reset:
        """What the path does now."""
        if self.mode == "hang":
            return Hang()
        if self.mode == "reset":
            return Reset()
        headers = {} if self.retry_after is None else {"Retry-After": f"{self.retry_after:g}"}
        return Response(self.status, b"{}\n", headers=headers, delay_s=self.delay_s)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request to a hook, and what it was answered."""

    n: int
    path: str
    id: str
    attempt: str
    signature: Signature
    received_at: float  # Unix time
    outcome: str  # the status answered, or hang, or reset
    body: bytes

    @property
    def size_bytes(self) -> int:
        """Its size in bytes, roughly."""
        return len(self.body) + 400

    def as_json(self) -> dict[str, Any]:
        """The delivery with its body as text."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {**fields, "body": self.body.decode(errors="replace")}


class Receiver:
    """Answers requests; one thread, no locks."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = list(secrets)
        self._numbers = itertools.count(1)
        self._forget()
        self._behaviours: dict[str, Behaviour] = {}
        self._routes: dict[tuple[str, str], Handler] = {
            ("POST", "/behaviour"): self._set_behaviour,
            ("GET", "/behaviour"): self._list_behaviours,
            ("DELETE", "/behaviour"): self._clear_behaviours,
            ("GET", "/received"): self._list_received,
            ("DELETE", "/received"): self._forget_received,
            ("GET", "/ids"): self._list_ids,
            ("GET", "/stats"): self._stats,
            ("POST", "/secrets"): self._add_secret,
            ("GET", "/health/ready"): lambda _: json_response({"status": "ok"}),
        }

    def handle(self, request: Request) -> Response | Hang | Reset:
        """Answer one request."""
        if request.method == "POST" and request.path.startswith("/hooks/"):
            return self._receive(request)
        route = self._routes.get((request.method, request.path))
        return route(request) if route else problem(404, f"nothing is served at {request.method} {request.path}")

    def _receive(self, request: Request) -> Response | Hang | Reset:
        signature = check_signature(request.headers, request.body, self._secrets, now=time.time())
        answer: Response | Hang | Reset
        if signature in ("ok", "unchecked"):
            answer = self._next_answer(request.path)
        else:
            answer = problem(401, f"the signature is not right: {signature}")
        delivery = Delivery(
            n=next(self._numbers),
            path=request.path,
            id=request.headers.get("webhook-id", ""),
            attempt=request.headers.get("notification-attempt", ""),
            signature=signature,
            received_at=time.time(),
            outcome=str(answer.status) if isinstance(answer, Response) else type(answer).__name__.lower(),
            body=request.body,
        )
        self._remember(delivery, accepted=isinstance(answer, Response) and 200 <= answer.status < 300)
        return answer

    def _next_answer(self, path: str) -> Response | Hang | Reset:
        behaviour = self._behaviours.get(path)
        if behaviour is None:
            return _OK
        if behaviour.times is not None:
            behaviour.times -= 1
            if behaviour.times == 0:
                del self._behaviours[path]
        return behaviour.answer()

    def _remember(self, delivery: Delivery, *, accepted: bool) -> None:
        self._recent.add(delivery)
        self._tally.count(delivery.id, accepted=accepted)
        self._wrong_signatures += delivery.signature not in ("ok", "unchecked")
        tally = self._by_path.get(delivery.path)
        if tally is None and len(self._by_path) < _MAX_PATHS:
            tally = self._by_path[delivery.path] = Tally()
        if tally is not None:
            tally.count(delivery.id, accepted=accepted)

    def _forget(self) -> None:
        self._recent: Recent[Delivery] = Recent()
        self._tally = Tally()
        self._by_path: dict[str, Tally] = {}
        self._wrong_signatures = 0

    def _set_behaviour(self, request: Request) -> Response:
        try:
            behaviour = Behaviour.parse(request.json())
        except ValueError as error:
            return problem(400, str(error))
        self._behaviours[behaviour.path] = behaviour
        return json_response(asdict(behaviour))

    def _list_behaviours(self, _: Request) -> Response:
        return json_response({"data": [asdict(behaviour) for behaviour in self._behaviours.values()]})

    def _clear_behaviours(self, request: Request) -> Response:
        if "path" in request.query:
            self._behaviours.pop(request.query["path"], None)
        else:
            self._behaviours.clear()
        return json_response({"ok": True})

    def _list_received(self, request: Request) -> Response:
        path, wanted = request.query.get("path"), request.query.get("id")
        found = (d for d in self._recent if path in (None, d.path) and wanted in (None, d.id))
        return json_response({"data": [d.as_json() for d in itertools.islice(found, limit_of(request))]})

    def _forget_received(self, _: Request) -> Response:
        self._forget()
        return json_response({"ok": True})

    def _add_secret(self, request: Request) -> Response:
        try:
            given = as_object(request.json()).get("secret")
            added = read_secrets(given) if isinstance(given, str) else []
        except ValueError as error:
            return problem(400, str(error))
        if not added:
            return problem(400, 'expected {"secret": "whsec_…"}')
        self._secrets += [secret for secret in added if secret not in self._secrets]
        return json_response({"secrets": len(self._secrets)})

    def _list_ids(self, request: Request) -> Response:
        return Response(200, "\n".join(self._tally_of(request).ids()).encode(), "text/plain")

    def _tally_of(self, request: Request) -> Tally:
        path = request.query.get("path")
        return self._tally if path is None else self._by_path.get(path, Tally())

    def _stats(self, request: Request) -> Response:
        if "path" in request.query:
            return json_response(self._tally_of(request).totals().as_json())
        totals = self._tally.totals().as_json()
        return json_response({**totals, "wrong_signatures": self._wrong_signatures, "paths": sorted(self._by_path)})


def check_signature(headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes], *, now: float) -> Signature:
    """Check a Standard Webhooks 1.0 signature: HMAC-SHA256 over `id.timestamp.body` with any of our secrets."""
    if not secrets:
        return "unchecked"
    message_id, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    given = [part[3:].encode() for part in headers.get("webhook-signature", "").split(" ") if part.startswith("v1,")]
    if not (message_id and sent_at.isascii() and sent_at.isdigit() and given):
        return "missing"
    if abs(now - int(sent_at)) > TOLERANCE_S:
        return "stale"
    signed = f"{message_id}.{sent_at}.".encode() + body
    for secret in secrets:
        expected = base64.b64encode(hmac.digest(secret, signed, hashlib.sha256))
        if any(hmac.compare_digest(expected, signature) for signature in given):
            return "ok"
    return "mismatch"


def read_secrets(value: str) -> list[bytes]:
    """Read WEBHOOK_SECRETS. Raises ValueError that does not repeat the secret."""
    secrets = []
    for number, text in enumerate(filter(None, map(str.strip, value.split(","))), start=1):
        try:
            secrets.append(base64.b64decode(text.removeprefix("whsec_"), validate=True))
        except binascii.Error as error:
            raise ValueError(f"secret {number} is not whsec_ followed by base64") from error
    return secrets


async def serve(*, host: str, port: int, secrets: Sequence[bytes]) -> None:
    """Serve until SIGTERM or SIGINT."""
    async with await listen(Receiver(secrets).handle, host=host, port=port):
        await until_stopped()


@click.command(help=__doc__)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=9000, show_default=True)
def main(host: str, port: int) -> None:
    """Read WEBHOOK_SECRETS and serve."""
    try:
        secrets = read_secrets(os.environ.get("WEBHOOK_SECRETS", ""))
    except ValueError as error:
        raise click.UsageError(f"WEBHOOK_SECRETS: {error}") from error
    asyncio.run(serve(host=host, port=port, secrets=secrets))


if __name__ == "__main__":
    main()
