"""A TCP proxy on loopback that hurts what passes through it when told to: it cuts, swallows and delays.

    python -m tests.chaos.proxy --port=6543 --target-port=5432 --control-port=6544 --protocol=postgres

It is told through the control port, a JSON object a line, and answers each with its counts. With `postgres` it sees
statements, so that a connection can be cut right before one reaches the server, or right after the server has
answered and before the client hears of it: the case in which nobody but the database knows what happened. Autocommit
statements carry no COMMIT that one could wait for; the ReadyForQuery after the statement is that moment.
"""

import asyncio
import json
import random
import socket
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

import click

from infra.local.ports import free_port
from infra.local.processes import ManagedProcess, Supervisor
from tests.chaos.pgwire import Answers, Statements

_CHUNK = 256 * 1024
_CONNECT_S = 5.0


@dataclass(frozen=True, slots=True)
class Rule:
    """What the proxy does to traffic. `none`: nothing, which is how it begins and how it is healed.

    cut_before: a statement that holds one of `texts` does not reach the server; its connection is gone.
    cut_after: it does, the server's whole answer is thrown away, then the connection is gone.
    cut: connections are cut at random, each with `probability` at each chunk. blackhole: nothing passes, nothing
    closes. refuse: present connections are cut, and new ones at once. delay: each chunk waits `delay_s`.
    """

    kind: Literal["none", "cut_before", "cut_after", "cut", "blackhole", "refuse", "delay"] = "none"
    texts: tuple[str, ...] = ()
    times: int = 1_000_000  # how often it may act; then it is as good as none
    probability: float = 1.0
    delay_s: float = 0.0
    seed: int = 0

    @classmethod
    def parse(cls, content: dict[str, Any]) -> Self:
        """Read a rule as it came over the control port. Raises TypeError for a name it does not know."""
        return cls(**{**content, "texts": tuple(content.get("texts", ()))})

    def as_json(self) -> dict[str, Any]:
        """The rule as plain JSON."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


class Relayed:
    """One connection: two directions, and what the rule of the moment makes of them."""

    def __init__(self, proxy: "Proxying", client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._statements, self._answers = Statements(), Answers()
        self._swallowing = False  # a statement was let through whose answer nobody is to hear

    async def upwards(self, reader: asyncio.StreamReader) -> None:
        """From the client to the server."""
        while chunk := await reader.read(_CHUNK):
            texts = self._statements.sent(chunk) if self._proxy.sees_statements else []
            rule = await self._proxy.pass_one()
            if rule.kind in ("cut_before", "cut_after") and self._meant(rule, texts) and self._proxy.act(rule):
                if rule.kind == "cut_before":
                    return self.cut()
                self._swallowing = True
            elif rule.kind == "cut" and self._proxy.act(rule):
                return self.cut()
            self._server.write(chunk)
            await self._server.drain()
        return None

    async def downwards(self, reader: asyncio.StreamReader) -> None:
        """From the server to the client."""
        while chunk := await reader.read(_CHUNK):
            complete = self._answers.complete(chunk) if self._proxy.sees_statements else False
            await self._proxy.pass_one()
            if self._swallowing:
                if complete:
                    self._proxy.counts["answers_swallowed"] += 1
                    return self.cut()
                continue
            self._client.write(chunk)
            await self._client.drain()
        return None

    def cut(self) -> None:
        """End the connection on both sides, with a reset, so that nobody takes it for an orderly end."""
        for writer in (self._client, self._server):
            with suppress(OSError, AttributeError):
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            writer.transport.abort()

    @staticmethod
    def _meant(rule: Rule, texts: list[str]) -> bool:
        return any(wanted in text for wanted in rule.texts for text in texts)


class Proxying:
    """The proxy's state: its rule, its connections, what it did."""

    def __init__(self, target_port: int, *, sees_statements: bool) -> None:
        self._target_port, self.sees_statements = target_port, sees_statements
        self.rule = Rule()
        self.counts: Counter[str] = Counter()
        self._rng = random.Random(0)
        self._open: set[Relayed] = set()
        self._changed = asyncio.Event()

    async def pass_one(self) -> Rule:
        """Let one chunk through under the rule of the moment, as late as that says; return the rule."""
        while self.rule.kind == "blackhole":
            self.counts["blackhole"] += 1
            await self._changed.wait()
        if self.rule.kind == "delay":
            self.counts["delay"] += 1
            await asyncio.sleep(self.rule.delay_s)
        return self.rule

    def act(self, rule: Rule) -> bool:
        """Say whether the rule acts this time, and count it."""
        if self.counts[rule.kind] >= rule.times or self._rng.random() >= rule.probability:
            return False
        self.counts[rule.kind] += 1
        return True

    def tell(self, content: dict[str, Any]) -> dict[str, Any]:
        """Take a new rule; return what was done under the old one. An empty object only asks."""
        said = {"rule": self.rule.as_json(), "counts": dict(self.counts), "open": len(self._open)}
        if content:
            self.rule = Rule.parse(content)
            self.counts.clear()
            self._rng = random.Random(self.rule.seed)
            self._changed.set()
            self._changed = asyncio.Event()
            if self.rule.kind == "refuse":
                self._cut_all()
        return said

    def _cut_all(self) -> None:
        for connection in list(self._open):
            self.counts["refuse"] += 1
            connection.cut()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until either side ends it."""
        if self.rule.kind == "refuse":
            self.counts["refuse"] += 1
            writer.transport.abort()
            return
        self.counts["connections"] += 1
        try:
            connecting = asyncio.open_connection("127.0.0.1", self._target_port)
            up_reader, up_writer = await asyncio.wait_for(connecting, _CONNECT_S)
        except (OSError, TimeoutError):
            writer.transport.abort()
            return
        connection = Relayed(self, writer, up_writer)
        self._open.add(connection)
        ways = [asyncio.create_task(connection.upwards(reader)), asyncio.create_task(connection.downwards(up_reader))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._open.discard(connection)
            for end in (writer, up_writer):
                with suppress(OSError):
                    end.close()

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one line after the other."""
        while line := await reader.readline():
            writer.write(json.dumps(self.tell(json.loads(line))).encode() + b"\n")
            await writer.drain()
        writer.close()


async def _serve(port: int, target_port: int, control_port: int, *, sees_statements: bool) -> None:
    proxying = Proxying(target_port, sees_statements=sees_statements)
    front = await asyncio.start_server(proxying.serve, "127.0.0.1", port, backlog=512)
    control = await asyncio.start_server(proxying.control, "127.0.0.1", control_port)
    async with front, control:
        await asyncio.gather(front.serve_forever(), control.serve_forever())


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--target-port", type=int, required=True)
@click.option("--control-port", type=int, required=True)
@click.option("--protocol", type=click.Choice(["postgres", "any"]), required=True)
def main(port: int, target_port: int, control_port: int, protocol: str) -> None:
    """Serve until killed."""
    asyncio.run(_serve(port, target_port, control_port, sees_statements=protocol == "postgres"))


class Proxy:
    """A proxy as a supervised process, and the way to tell it what to do."""

    def __init__(
        self, supervisor: Supervisor, name: str, *, target_port: int, protocol: Literal["postgres", "any"] = "any"
    ) -> None:
        self.port, self._control_port = free_port(), free_port()
        options = [f"--port={self.port}", f"--target-port={target_port}", f"--control-port={self._control_port}"]
        line = [sys.executable, "-m", "tests.chaos.proxy", *options, f"--protocol={protocol}"]
        self.process: ManagedProcess = supervisor.process(name, line)

    def start(self) -> Self:
        """Start it and return once it serves."""
        self.process.start()
        self.process.wait_until(self._answers, timeout_s=20)
        return self

    def tell(self, rule: Rule) -> dict[str, int]:
        """Set a rule; return how often what was done under the one before it."""
        return dict(self._say(rule.as_json())["counts"])

    def heal(self) -> dict[str, int]:
        """Let everything pass again; return how often what was done until now."""
        return self.tell(Rule())

    def counts(self) -> dict[str, int]:
        """How often what was done under the present rule."""
        return dict(self._say({})["counts"])

    def _say(self, content: dict[str, Any]) -> dict[str, Any]:
        with socket.create_connection(("127.0.0.1", self._control_port), timeout=10) as line:
            line.sendall(json.dumps(content).encode() + b"\n")
            with line.makefile("rb") as answer:
                return dict(json.loads(answer.readline()))

    def _answers(self) -> bool:
        try:
            self._say({})
        except OSError:
            return False
        return True


if __name__ == "__main__":
    main()
