"""A pipeline that keeps no promise but those it is told to: accepts, and posts to the receivers from memory.

`--lose 50` loses every fiftieth notification, `--double 50` delivers it twice, `--swap 50` delivers it and the next one
under each other's ids, `--invent 50` delivers another one that nobody asked for, `--mangle 50` delivers it once more
with its message damaged; `--refuse 50` answers every fiftieth request with 503, `--key K` each without it with 401.
"""

import asyncio
import uuid
from urllib.parse import urlsplit

import click
import orjson

from infra.local.http_server import Request, Response, json_response, listen, until_stopped


class Pipeline:
    """Counts, accepts, delivers."""

    def __init__(self, key: str | None, **every: int) -> None:
        self._key, self._every = key, every
        self._requests = self._notifications = 0
        self._held: tuple[str, dict[str, str]] | None = None  # to be swapped
        self._queues: dict[int, asyncio.Queue[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        if (
            self._key
            and request.path != "/health/ready"
            and request.headers.get("authorization") != f"Bearer {self._key}"
        ):
            return json_response({}, status=401)
        if request.method != "POST":
            return json_response({"status": "ok"})
        self._requests += 1
        if self._is_one_of("refuse", self._requests):
            return json_response({}, status=503)
        body = request.json()
        made = [self._accept(item) for item in (body if isinstance(body, list) else [body])]
        return json_response({"notifications": made} if isinstance(body, list) else made[0], status=202)

    def _is_one_of(self, what: str, count: int) -> bool:
        every = self._every[what]
        return every > 0 and count % every == 0

    def _accept(self, item: dict[str, str]) -> dict[str, str]:
        self._notifications += 1
        id_ = str(uuid.uuid4())
        if self._is_one_of("swap", self._notifications):
            self._held = (id_, item)
        elif self._held is not None:
            (other, its), self._held = self._held, None
            self._deliver(id_, its)
            self._deliver(other, item)
        elif not self._is_one_of("lose", self._notifications):
            self._deliver(id_, item)
        if self._is_one_of("double", self._notifications):
            self._deliver(id_, item)
        if self._is_one_of("invent", self._notifications):
            self._deliver(str(uuid.uuid4()), item)
        if self._is_one_of("mangle", self._notifications):
            self._deliver(id_, item | {"message": item["message"][::-1]})
        return {"id": id_}

    def _deliver(self, id_: str, item: dict[str, str]) -> None:
        url = urlsplit(item["recipient"])
        body = orjson.dumps({"data": {"message": item["message"]}})
        head = f"POST {url.path} HTTP/1.1\r\nHost: x\r\nwebhook-id: {id_}\r\nContent-Length: {len(body)}\r\n\r\n"
        port = url.port or 80
        if port not in self._queues:
            self._queues[port] = asyncio.Queue()
            task = asyncio.get_running_loop().create_task(self._post(port))
            self._tasks.add(task)
        self._queues[port].put_nowait(head.encode() + body)

    async def _post(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while True:
            writer.write(await self._queues[port].get())
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(2 if b" 200 " in head else 0)


async def serve(port: int, key: str | None, **every: int) -> None:
    """Serve until SIGTERM."""
    async with await listen(Pipeline(key, **every).handle, host="127.0.0.1", port=port):
        await until_stopped()


@click.command(help=__doc__)
@click.option("--port", type=int, required=True)
@click.option("--lose", type=int, default=0)
@click.option("--double", type=int, default=0)
@click.option("--swap", type=int, default=0)
@click.option("--invent", type=int, default=0)
@click.option("--mangle", type=int, default=0)
@click.option("--refuse", type=int, default=0)
@click.option("--key")
def main(port: int, key: str | None, **every: int) -> None:
    """Serve."""
    asyncio.run(serve(port, key, **every))


if __name__ == "__main__":
    main()
