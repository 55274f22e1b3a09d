"""An SMTP server that takes every message, shows it, and fails when told to.

    SMTP on --smtp-port, no encryption, no login: a sink for one machine
    GET /              the last messages, as a page
    GET /messages      as JSON, newest first: ?notification_id= ?to= ?limit= · DELETE /messages forgets them
    GET /messages/{n}  one message with its text and its source
    GET /stats         totals, and the notifications whose mail came more than once
    POST /behaviour    {"mode": "ok" | "defer" | "reject" | "drop" | "hang", "for_recipient": "a@example.org",
                        "times": 3}; without a recipient for all, without "times" until told otherwise
    GET /behaviour     what is set · DELETE /behaviour forgets it

defer answers 451 and reject 550 to RCPT. drop and hang take the whole message in and then close the connection or
stay silent: the sender cannot know what became of it.
"""

import asyncio
import html
import itertools
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from email import message_from_bytes, policy
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from typing import Any, Literal, get_args

import click
from aiosmtpd.smtp import SMTP, Envelope, Session

from infra.local.behaviour import as_object, checked, is_times
from infra.local.http_server import Request, Response, json_response, limit_of, listen, problem, until_stopped
from infra.local.tally import Recent, Tally, Totals

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
_PAGE_MESSAGES = 100
_HANG_S = 3_600.0

Mode = Literal["ok", "defer", "reject", "drop", "hang"]


@dataclass(slots=True)
class Behaviour:
    """How mail is treated, `times` times or until told otherwise (None)."""

    mode: Mode = "ok"
    for_recipient: str | None = None  # None: every recipient without a behaviour of its own
    times: int | None = None

    @classmethod
    def parse(cls, content: object) -> "Behaviour":
        """Read the JSON of POST /behaviour. Raises ValueError that names every fault."""
        fields = as_object(content)
        recipient = fields.get("for_recipient")
        expected = {
            "mode": (fields.get("mode") in get_args(Mode), "ok, defer, reject, drop or hang"),
            "for_recipient": (recipient is None or isinstance(recipient, str), "an address, or null"),
            "times": (is_times(fields.get("times")), "a number from 1, or null"),
        }
        checked(fields, expected)
        return cls(fields["mode"], recipient.lower() if recipient else None, fields.get("times"))


@dataclass(frozen=True, slots=True)
class Mail:
    """One message as it was received."""

    n: int
    received_at: float  # Unix time
    mail_from: str
    recipients: tuple[str, ...]
    subject: str
    message_id: str
    notification_id: str  # header X-Notification-Id
    outcome: Mode  # ok, or how the sender was left in doubt
    source: bytes

    @property
    def size_bytes(self) -> int:
        """Its size in bytes, roughly."""
        return len(self.source) + 600

    def summary(self) -> dict[str, Any]:
        """Everything but the content."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "source"}

    def text(self) -> str:
        """The readable part of the content: plain text if there is any, else the HTML source."""
        message = message_from_bytes(self.source, policy=policy.default)
        body = message.get_body(("plain", "html")) if isinstance(message, EmailMessage) else None
        try:
            return str(body.get_content()) if body is not None else ""
        except (LookupError, ValueError):  # a charset nobody knows: the source is there to look at
            return ""


class Mailbox:
    """Takes mail by SMTP and shows it by HTTP; one thread, no locks."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._behaviours: dict[str | None, Behaviour] = {}
        self._headers = BytesHeaderParser(policy=policy.compat32)  # header objects of other policies cost 0.6 ms each
        self._forget()
        self._routes: dict[tuple[str, str], Callable[[Request], Response]] = {
            ("GET", "/"): self._page,
            ("GET", "/messages"): self._list,
            ("DELETE", "/messages"): self._delete,
            ("GET", "/stats"): lambda _: json_response(self._tally.totals().as_json()),
            ("POST", "/behaviour"): self._set_behaviour,
            ("GET", "/behaviour"): self._list_behaviours,
            ("DELETE", "/behaviour"): self._clear_behaviours,
            ("GET", "/favicon.ico"): lambda _: Response(204),  # browsers ask, and would log a 404
            ("GET", "/health/ready"): lambda _: json_response({"status": "ok"}),
        }

    # SMTP: names and signatures are aiosmtpd's

    async def handle_RCPT(  # noqa: N802
        self,
        server: SMTP,  # noqa: ARG002
        session: Session,  # noqa: ARG002
        envelope: Envelope,
        address: str,
        rcpt_options: list[str],
    ) -> str:
        """Take a recipient, or refuse it for now or for good."""
        mode = self._behaviour_of(address).mode
        if mode in ("defer", "reject"):
            self._use_up(address)
            self._tally.count("", accepted=False)
            return "451 4.7.1 Try again later" if mode == "defer" else "550 5.1.1 No such mailbox"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(rcpt_options)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: ARG002, N802
        """Remember a message; answer, stay silent, or close the connection."""
        source = envelope.original_content or b""
        modes = [self._use_up(recipient) for recipient in envelope.rcpt_tos]
        mode: Mode = next((mode for mode in modes if mode in ("drop", "hang")), "ok")
        mail = self._read(source, envelope.mail_from or "", tuple(envelope.rcpt_tos), mode)
        self._recent.add(mail)
        self._tally.count(mail.notification_id, accepted=True)
        if mode == "hang":
            await asyncio.sleep(_HANG_S)
        if mode == "drop" and isinstance(server.transport, asyncio.Transport):
            server.transport.abort()
        return f"250 OK message {mail.n}"

    def _read(self, source: bytes, mail_from: str, recipients: tuple[str, ...], outcome: Mode) -> Mail:
        headers = self._headers.parsebytes(source)
        return Mail(
            n=next(self._numbers),
            received_at=time.time(),
            mail_from=mail_from,
            recipients=recipients,
            subject=_decoded(str(headers.get("Subject", ""))),
            message_id=str(headers.get("Message-ID", "")).strip(),
            notification_id=str(headers.get("X-Notification-Id", "")).strip(),
            outcome=outcome,
            source=source,
        )

    def _behaviour_of(self, recipient: str) -> Behaviour:
        return self._behaviours.get(recipient.lower()) or self._behaviours.get(None) or Behaviour()

    def _use_up(self, recipient: str) -> Mode:
        """Return how this recipient is treated now, and count it off."""
        behaviour = self._behaviour_of(recipient)
        if behaviour.times is not None:
            behaviour.times -= 1
            if behaviour.times == 0:
                self._behaviours.pop(behaviour.for_recipient, None)
        return behaviour.mode

    # HTTP

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        if request.method == "GET" and request.path.startswith("/messages/"):
            return self._show(request)
        route = self._routes.get((request.method, request.path))
        return route(request) if route else problem(404, f"nothing is served at {request.method} {request.path}")

    def _forget(self) -> None:
        self._recent: Recent[Mail] = Recent()
        self._tally = Tally()

    def _delete(self, _: Request) -> Response:
        self._forget()
        return json_response({"ok": True})

    def _list(self, request: Request) -> Response:
        wanted, to = request.query.get("notification_id"), request.query.get("to", "").lower()
        found = (
            mail
            for mail in self._recent
            if wanted in (None, mail.notification_id)
            and (not to or to in (recipient.lower() for recipient in mail.recipients))
        )
        return json_response({"data": [mail.summary() for mail in itertools.islice(found, limit_of(request))]})

    def _show(self, request: Request) -> Response:
        number = request.path.removeprefix("/messages/")
        mail = next((mail for mail in self._recent if str(mail.n) == number), None)
        if mail is None:
            return problem(404, f"there is no message {number}")
        source = mail.source.decode(errors="replace")
        return json_response({**mail.summary(), "text": mail.text(), "source": source})

    def _set_behaviour(self, request: Request) -> Response:
        try:
            behaviour = Behaviour.parse(request.json())
        except ValueError as error:
            return problem(400, str(error))
        self._behaviours[behaviour.for_recipient] = behaviour
        return json_response(asdict(behaviour))

    def _list_behaviours(self, _: Request) -> Response:
        return json_response({"data": [asdict(behaviour) for behaviour in self._behaviours.values()]})

    def _clear_behaviours(self, _: Request) -> Response:
        self._behaviours.clear()
        return json_response({"ok": True})

    def _page(self, _: Request) -> Response:
        rows = "".join(_row(mail) for mail in itertools.islice(self._recent, _PAGE_MESSAGES))
        body = _PAGE.format(rows=rows, totals=_in_words(self._tally.totals()))
        # Mail is strangers' text: nothing in it may run or load, even if something escaped escaping.
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return Response(200, body.encode(), "text/html; charset=utf-8", headers)


_PAGE = """\
<!doctype html><html lang="en"><meta charset="utf-8"><title>Mail received</title>
<style>body{{font:15px system-ui;margin:2rem}}table{{border-collapse:collapse;width:100%}}
td,th{{text-align:left;padding:.4rem .8rem;border-bottom:1px solid #ccc;vertical-align:top}}
td{{overflow-wrap:anywhere}}pre{{margin:0;white-space:pre-wrap}}.id{{white-space:nowrap;overflow-wrap:normal}}</style>
<h1>Mail received</h1><p>{totals}</p>
<table><tr><th>#<th>Time<th>To<th>Subject<th>Text<th>Notification</tr>{rows}</table></html>
"""


def _in_words(totals: Totals) -> str:
    """What came, in a sentence; notifications whose mail came twice are named only where there are any."""
    if not totals.accepted:
        return "Nothing yet. Messages are kept in memory only, until this sink ends."
    words = "1 message" if totals.accepted == 1 else f"{totals.accepted:,} messages, the newest first"
    if (twice := totals.duplicate_count) > 0:
        words += f"; {twice:,} notification{'' if twice == 1 else 's'} came more than once"
    return f"{words}."


def _row(mail: Mail) -> str:
    clock = time.strftime("%H:%M:%S", time.localtime(mail.received_at))
    cells = (clock, ", ".join(mail.recipients), mail.subject, mail.text()[:500], mail.notification_id)
    clock, recipients, subject, text, notification_id = map(html.escape, cells)
    return (
        f'<tr><td class="id"><a href="/messages/{mail.n}">{mail.n}</a><td class="id">{clock}<td>{recipients}'
        f'<td>{subject}<td><pre>{text}</pre><td class="id">{notification_id}</tr>'
    )


def _decoded(header: str) -> str:
    """Return a header with its encoded words read; one that cannot be read as it is."""
    try:
        return str(make_header(decode_header(header)))
    except (LookupError, UnicodeDecodeError, HeaderParseError):
        return header


async def serve(*, host: str, smtp_port: int, http_port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    mailbox = Mailbox()
    loop = asyncio.get_running_loop()

    def connection() -> SMTP:
        return SMTP(mailbox, data_size_limit=MAX_MESSAGE_BYTES, enable_SMTPUTF8=True, loop=loop, ident="sink")

    mail = await loop.create_server(connection, host, smtp_port, backlog=1024)
    async with mail, await listen(mailbox.handle, host=host, port=http_port):
        await until_stopped()


@click.command(help=__doc__)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--smtp-port", default=1025, show_default=True)
@click.option("--http-port", default=8025, show_default=True)
def main(host: str, smtp_port: int, http_port: int) -> None:
    """Serve both ports."""
    asyncio.run(serve(host=host, smtp_port=smtp_port, http_port=http_port))


if __name__ == "__main__":
    main()
