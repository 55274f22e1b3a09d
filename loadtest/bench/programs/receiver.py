"""Receivers of webhooks and mail that take everything at once, and say what came and when.

GET /count    how many different notifications were received, and how many deliveries in all
GET /ledger   a line for each notification: its id in hexadecimal, and the instant of its first delivery, in µs of
             the machine's monotonic clock
POST /forget  begins anew
"""

import asyncio

import click
import uvloop

from infra.local.http_server import Request, Response, json_response, listen, problem, until_stopped
from loadtest.manners import OK, Manner
from loadtest.receiving import Hook, Mail
from loadtest.stamps import now_us


class Everything:
    """An origin that accepts all and remembers the instant of each."""

    def __init__(self) -> None:
        self._first: dict[bytes, int] = {}
        self._deliveries = 0

    def deliver(self, id_: bytes, content: bytes, *, attempt: int) -> tuple[Manner, float]:  # noqa: ARG002 - Origin's
        """Take a delivery."""
        self._deliveries += 1
        self._first.setdefault(id_, now_us())
        return OK, 0.0

    def handle(self, request: Request) -> Response:
        """Answer the bench."""
        asked = f"{request.method} {request.path}"
        if asked == "GET /ledger":
            return Response(
                200, "\n".join(f"{id_.hex()} {at}" for id_, at in self._first.items()).encode(), "text/plain"
            )
        if asked == "POST /forget":
            self._first.clear()
            self._deliveries = 0
        elif asked not in ("GET /count", "GET /health/ready"):
            return problem(404, f"nothing is served at {asked}")
        return json_response({"received": len(self._first), "deliveries": self._deliveries})


async def serve(hooks_port: int, mail_port: int, control_port: int) -> None:
    """Serve until SIGTERM."""
    loop, everything = asyncio.get_running_loop(), Everything()
    hooks = await loop.create_server(lambda: Hook(everything, lambda _: None), "127.0.0.1", hooks_port, backlog=2048)
    mail = await loop.create_server(lambda: Mail(everything), "127.0.0.1", mail_port, backlog=2048)
    async with hooks, mail, await listen(everything.handle, host="127.0.0.1", port=control_port):
        await until_stopped()


@click.command(help=__doc__)
@click.option("--hooks-port", type=int, required=True)
@click.option("--mail-port", type=int, required=True)
@click.option("--control-port", type=int, required=True)
def main(hooks_port: int, mail_port: int, control_port: int) -> None:
    """Serve."""
    uvloop.run(serve(hooks_port, mail_port, control_port))


if __name__ == "__main__":
    main()
