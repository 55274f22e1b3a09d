"""The mail server: raw SMTP, which drops, falls silent, refuses for now or for good, as the recipient's name says.

Run as `python -m tests.chaos.smtp RUN_DIR`.
"""

import asyncio
import email
import email.policy
import hashlib
import sys
from pathlib import Path
from random import Random
from typing import Any, Final

import uvloop

from tests.chaos.config import Config
from tests.chaos.hooks import until_stopped
from tests.chaos.ledger import Ledger, now
from tests.chaos.load import digest

_HOW_OFTEN: Final = {"drop": 0.6, "silent": 0.5, "cut": 0.5, "s451": 0.6, "s452": 0.6, "s550": 1.0, "s554": 1.0}
FOR_GOOD: Final = frozenset({"s550", "s554"})
_END: Final = b"\r\n.\r\n"


class MailServer:
    """What all connections share."""

    def __init__(self, config: Config, ledger: Ledger) -> None:
        self._config, self._ledger = config, ledger
        self._rng = Random(f"{config.seed}/smtp")

    def behaviour(self, recipient: str) -> str:
        """What a recipient makes the server do this time."""
        name = recipient.partition(".")[0]
        healed = now() >= self._config.heal_at and name not in FOR_GOOD
        return name if name in _HOW_OFTEN and not healed and self._rng.random() < _HOW_OFTEN[name] else "ok"

    def receive(self, message: bytes, recipient: str, answer: str) -> None:
        """Write down a message that came whole."""
        parsed = email.message_from_bytes(message, policy=email.policy.default)
        text = str(parsed.get_content()).rstrip("\r\n")
        subject = parsed["Subject"]
        self._ledger.write(
            {
                "t": now(),
                "id": str(parsed["X-Notification-Id"]),
                "mid": str(parsed["Message-ID"]).strip("<>").partition("@")[0],
                "a": 0,
                "tok": text.split(" ", 1)[0],
                "h": digest(None if subject is None else str(subject), text, None, None),
                "b": hashlib.sha256(message).hexdigest()[:20],
                "s": "ok",
                "to": recipient,
                "ans": answer,
            }
        )


class Session(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: MailServer) -> None:
        self._server = server
        self._transport: Any = None
        self._buffer = bytearray()
        self._in_data = self._silent = False
        self._recipient, self._does = "", "ok"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = transport
        self._say("220 chaos ESMTP")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Go on with what is complete."""
        self._buffer += data
        while self._transport is not None and not self._silent:
            if not (self._content() if self._in_data else self._command()):
                return

    def _say(self, line: str) -> None:
        self._transport.write(line.encode() + b"\r\n")

    def _command(self) -> bool:
        line, end, rest = bytes(self._buffer).partition(b"\r\n")
        if not end:
            return False
        self._buffer = bytearray(rest)
        verb = line[:4].upper()
        if verb == b"RCPT":
            self._rcpt(line)
        elif verb == b"DATA":
            self._in_data = True
            self._say("354 go on")
        elif verb == b"QUIT":
            self._say("221 bye")
            self._transport.close()
        else:
            self._say("250 chaos")
        return True

    def _rcpt(self, line: bytes) -> None:
        self._recipient = line.partition(b"<")[2].partition(b">")[0].decode()
        self._does = self._server.behaviour(self._recipient)
        refusal = {"s451": "451 not now", "s550": "550 no such user"}.get(self._does)
        self._say(refusal or "250 fine")

    def _content(self) -> bool:
        if self._does == "drop" and self._buffer:
            self._transport.abort()
            return False
        end = self._buffer.find(_END)
        if end < 0:
            return False
        message = bytes(self._buffer[: end + 2]).replace(b"\r\n..", b"\r\n.")
        del self._buffer[: end + len(_END)]
        self._in_data = False
        answer = {"silent": "silent", "cut": "cut", "s452": "452", "s554": "554"}.get(self._does, "250")
        self._server.receive(message, self._recipient, answer)
        if answer == "silent":
            self._silent = True
        elif answer == "cut":
            self._transport.abort()
        else:
            self._say(f"{answer} so be it")
        return True


async def serve(run_dir: Path) -> None:
    """Listen until SIGTERM."""
    config = Config.load(run_dir)
    ledger = Ledger(run_dir / "ledgers" / "smtp.jsonl", buffered=True)
    server = MailServer(config, ledger)
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Session(server), "127.0.0.1", config.smtp_port, backlog=512)
    async with listening:
        await until_stopped(ledger, run_dir / "smtp.ready")


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
