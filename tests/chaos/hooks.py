"""The webhook receiver: 200 origins on loopback, some of which hang, refuse, reset, drip, answer garbage or redirect.

What came is in the ledger before a byte of the answer goes out. Run as `python -m tests.chaos.hooks RUN_DIR`.
"""

import asyncio
import hashlib
import signal
import socket
import struct
import sys
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final

import orjson
import uvloop
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from infra.local.http_server import Request, parse_request
from tests.chaos.config import Config, destinations_of
from tests.chaos.ledger import FLUSH_EVERY_S, Ledger, now
from tests.chaos.load import digest

_DRIP_S: Final = 0.15
_OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}"
_GARBAGE: Final = b"\x00\xff\xfe this is no HTTP\r\n\r\n" * 4
# Behaviour -> how often it misbehaves; the rest of the time it answers 200.
_HOW_OFTEN: Final = {
    "hang": 0.9, "http_503": 0.6, "http_429": 0.5, "ambiguous": 0.4, "drip": 0.5, "garbage": 0.5, "redirect": 1.0,
    "gone": 1.0, "slow": 1.0, "dead": 1.0,
}  # fmt: skip
FOR_GOOD: Final = frozenset({"redirect", "gone", "dead"})


class Hooks:
    """What all connections share: behaviours, the ledger, the secret."""

    def __init__(self, config: Config, behaviours: dict[str, str], ledger: Ledger) -> None:
        self._config, self._behaviours, self._ledger = config, behaviours, ledger
        self._rng = Random(f"{config.seed}/hooks")
        self._webhook = Webhook(config.secret)

    def receive(self, request: Request, host: str) -> str:
        """Write down a request and return what is answered."""
        answer = "404" if request.path != "/in" else self._answer(host)
        headers = request.headers
        try:
            data = orjson.loads(request.body)["data"]
            token = data["message"].split(" ", 1)[0]
            content = digest(data["subject"], data["message"], data["payload"], data["metadata"])
        except (ValueError, KeyError, TypeError, AttributeError):
            token, content = "", ""
        self._ledger.write(
            {
                "t": now(),
                "id": headers.get("webhook-id", ""),
                "a": int(headers.get("notification-attempt", "0")),
                "tok": token,
                "h": content,
                "b": hashlib.sha256(request.body).hexdigest()[:20],
                "s": self._signed(request),
                "to": f"http://{host}:{self._config.hooks_port}{request.path}",
                "ans": answer,
            }
        )
        return answer

    def _signed(self, request: Request) -> str:
        """Return ok, stale where only the timestamp is too far from our clock, or wrong."""
        try:
            self._webhook.verify(request.body, dict(request.headers), json_parse=False)
        except (WebhookVerificationError, ValueError):
            return "stale" if self._signed_at_another_time(request) else "wrong"
        return "ok"

    def _signed_at_another_time(self, request: Request) -> bool:
        headers = request.headers
        try:
            at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
        except (KeyError, ValueError, OverflowError):
            return False
        signature = self._webhook.sign(headers.get("webhook-id", ""), at, request.body.decode("utf-8", "replace"))
        return signature in headers.get("webhook-signature", "").split(" ")

    def _answer(self, host: str) -> str:
        behaviour, rng = self._behaviours.get(host, "ok"), self._rng
        healed = now() >= self._config.heal_at and behaviour not in FOR_GOOD
        if behaviour == "ok" or healed or rng.random() >= _HOW_OFTEN[behaviour]:
            return "200"
        return {
            "http_429": f"429:{rng.choice(('1', '2', '3', 'soon', '-5'))}",
            "http_503": rng.choice(("503", "503", "500", "503:1")),
            "slow": f"200:{rng.uniform(0.05, 0.8):.3f}",
            "redirect": "302",
            "gone": "410",
            "dead": "503",
        }.get(behaviour, behaviour)  # hang, ambiguous, drip, garbage


class Connection(asyncio.Protocol):
    """One connection; requests are answered one after the other."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._buffer = bytearray()
        self._transport: Any = None
        self._held = False
        self._host = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Learn which origin it is for."""
        self._transport = transport
        self._host = transport.get_extra_info("sockname")[0]

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        self._buffer += data
        self._go_on()

    def _go_on(self) -> None:
        while self._transport is not None and not self._held:
            try:
                request, used = parse_request(self._buffer)
            except ValueError:
                self._transport.abort()
                return
            if request is None:
                return
            del self._buffer[:used]
            self._answer(self._hooks.receive(request, self._host))

    def _answer(self, answer: str) -> None:
        status, _, extra = answer.partition(":")
        loop = asyncio.get_running_loop()
        if answer == "200":
            self._transport.write(_OK)
        elif status == "200":
            self._held = True
            loop.call_later(float(extra), self._write_late)
        elif answer == "hang":
            self._held = True
        elif answer == "ambiguous":
            self._reset()
        elif answer == "drip":
            self._held = True
            self._drip(0)
        elif answer == "garbage":
            self._transport.write(_GARBAGE)
            self._transport.close()
        else:
            lines = [f"HTTP/1.1 {status} Because", "Content-Length: 0"]
            lines += [f"Retry-After: {extra}"] if extra else []
            lines += [f"Location: http://{self._host}/elsewhere"] if status == "302" else []
            self._transport.write(("\r\n".join(lines) + "\r\n\r\n").encode())

    def _write_late(self) -> None:
        self._held = False
        if self._transport is not None:
            self._transport.write(_OK)
            self._go_on()

    def _drip(self, at: int) -> None:
        if self._transport is not None and at < len(_OK):
            self._transport.write(_OK[at : at + 1])
            asyncio.get_running_loop().call_later(_DRIP_S, self._drip, at + 1)

    def _reset(self) -> None:
        raw: socket.socket | None = self._transport.get_extra_info("socket")
        if raw is not None:  # linger of zero seconds: RST instead of FIN
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


async def until_stopped(ledger: Ledger, ready: Path) -> None:
    """Say that everything listens, and flush the ledger until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    ready.touch()
    while not stop.is_set():
        ledger.flush()
        await asyncio.sleep(FLUSH_EVERY_S)
    ledger.close()


async def serve(run_dir: Path) -> None:
    """Listen on every origin until SIGTERM."""
    config = Config.load(run_dir)
    behaviours = {one.host: one.behaviour for one in destinations_of(run_dir)}
    ledger = Ledger(run_dir / "ledgers" / "hooks.jsonl", buffered=True)
    hooks = Hooks(config, behaviours, ledger)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(hooks), list(behaviours), config.hooks_port, backlog=512)
    async with server:
        await until_stopped(ledger, run_dir / "hooks.ready")


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
