"""The receivers' process, as the bench sees it."""

import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import orjson

from infra.local.ports import free_port
from infra.local.processes import ManagedProcess
from loadtest.bench.rig import Rig


class Receivers:
    """Receivers of webhooks and mail that accept everything."""

    def __init__(self, process: ManagedProcess, hooks_port: int, mail_port: int, control_port: int) -> None:
        self.process, self.hooks_port, self.mail_port = process, hooks_port, mail_port
        self._control = f"http://127.0.0.1:{control_port}"

    @property
    def url(self) -> str:
        """Where webhooks go."""
        return f"http://127.0.0.1:{self.hooks_port}/hooks/bench"

    def received(self) -> int:
        """How many different notifications came."""
        return int(orjson.loads(self._ask("/count"))["received"])

    def ledger(self) -> dict[str, float]:
        """Return the instant of each one's first delivery (seconds of the monotonic clock), by id in hexadecimal."""
        lines = (line.split() for line in self._ask("/ledger").decode().splitlines())
        return {id_: int(at_us) / 1e6 for id_, at_us in lines}

    def forget(self) -> None:
        """Begin anew."""
        self._ask("/forget", b"")

    def _ask(self, path: str, body: bytes | None = None) -> bytes:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self._control}{path}", body, timeout=60) as answer:
            return bytes(answer.read())


@contextmanager
def receivers(rig: Rig) -> Iterator[Receivers]:
    """Run receivers; they are ready when this yields, and gone afterwards."""
    hooks, mail, control = free_port(), free_port(), free_port()
    argv = [sys.executable, "-m", "loadtest.bench.programs.receiver"]
    argv += [f"--hooks-port={hooks}", f"--mail-port={mail}", f"--control-port={control}"]
    process = rig.start("receivers", argv, rig.environ())
    try:
        process.wait_healthy(f"http://127.0.0.1:{control}/health/ready", timeout_s=60)
        yield Receivers(process, hooks, mail, control)
    finally:
        process.terminate()
