"""The processes that a run adds to its target, and how they are steered: the generator's, and the sink."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from infra.local.ports import free_port
from infra.local.processes import ManagedProcess, Supervisor
from infra.local.stack import REPOSITORY
from loadtest.elsewhere import API_KEY
from loadtest.errors import RunError
from loadtest.profiles import Profile, Stage

_READY_S: Final = 30.0
_STEER_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Order:
    """What every process of a run is told about it."""

    profile: Profile
    overrides: tuple[str, ...]
    seed: int
    run: str  # eight hexadecimal digits
    directory: Path  # for ledgers


class Steered:
    """A process that listens to us."""

    def __init__(self, process: ManagedProcess, control_port: int) -> None:
        self.process = process
        self._url = f"http://127.0.0.1:{control_port}"
        self._http = httpx.Client(base_url=self._url, timeout=_STEER_S, trust_env=False)

    def wait_ready(self) -> None:
        """Return once it listens."""
        self.process.wait_healthy(f"{self._url}/health/ready", timeout_s=_READY_S)

    def tell(self, path: str, **what: Any) -> dict[str, Any]:
        """Tell it something; return its answer. Raises RunError if it does not answer."""
        try:
            answer = self._http.post(path, json=what).raise_for_status().json()
        except httpx.HTTPError as error:
            ended = "" if self.process.is_running else f", it ended with {self.process.returncode}"
            raise RunError(f"{self.process.name} does not answer{ended}: {error}") from error
        return dict(answer)

    def close(self) -> None:
        """Forget it; the supervisor ends it."""
        self._http.close()


class Crew:
    """The sink and the generator's processes of one run."""

    def __init__(self, supervisor: Supervisor, order: Order) -> None:
        self._supervisor, self._order = supervisor, order
        self.sink: Steered | None = None
        self.generators: list[Steered] = []

    @property
    def processes(self) -> dict[str, list[int]]:
        """The pids of each part."""
        sinks = {"sink": [self.sink.process.pid]} if self.sink else {}
        return {**sinks, "generator": [one.process.pid for one in self.generators]}

    def start_sink(self, *, hook_ports: Sequence[int], smtp_port: int, host: str) -> None:
        """Start the receivers; they listen when this returns."""
        ports = [f"--hook-port={port}" for port in hook_ports]
        self.sink = self._start("sink", "loadtest.sink", *ports, f"--smtp-port={smtp_port}", f"--host={host}")
        self.sink.wait_ready()

    def start_generators(self, *, api_url: str, hooks: Sequence[str], api_key: str | None) -> None:
        """Start the generator; it waits for stages. The key goes by the environment: all can read arguments."""
        environ = {**os.environ, API_KEY: api_key or ""}
        where = [f"--api-url={api_url}", f"--seed={self._order.seed}", *(f"--hook={hook}" for hook in hooks)]
        for number in range(self._order.profile.generator.processes):
            name = f"generator-{number}"
            arguments = (f"--process={number}", *where)
            self.generators.append(self._start(name, "loadtest.generator", *arguments, environ=environ))
        for generator in self.generators:
            generator.wait_ready()

    def _start(self, name: str, module: str, *arguments: str, environ: Mapping[str, str] | None = None) -> Steered:
        order, control_port = self._order, free_port()
        command = [sys.executable, "-m", module, f"--profile={order.profile.name}", f"--run={order.run}"]
        command += [f"--set={override}" for override in order.overrides]
        command += [f"--directory={order.directory}", f"--control-port={control_port}", *arguments]
        return Steered(self._supervisor.process(name, command, env=environ, cwd=REPOSITORY).start(), control_port)

    def window(self, from_us: int, to_us: int) -> None:
        """Measure what is intended in between; what was measured before is forgotten."""
        for one in self._all():
            one.tell("/window", from_us=from_us, to_us=to_us)

    def stage(self, begin_us: int, stage: Stage) -> None:
        """Have a stage played."""
        told = {"for_s": stage.for_s, "rate_per_s": stage.rate_per_s, "to_per_s": stage.to_per_s}
        for generator in self.generators:
            generator.tell("/stage", begin_us=begin_us, **told)

    def behave(self, origin: int | None, **manner: Any) -> None:
        """Tell an origin how to answer, or all; see manners.py."""
        if self.sink is not None:
            self.sink.tell("/behave", origin=origin, **manner)

    def stop_asking(self) -> None:
        """Have nothing more asked."""
        for generator in self.generators:
            generator.tell("/stop")

    def take(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """What the generator's processes and the sink saw since the last time."""
        asked = [generator.tell("/take") for generator in self.generators]
        return asked, self.sink.tell("/take") if self.sink else {}

    def close(self) -> None:
        """Forget all of them."""
        for one in self._all():
            one.close()

    def _all(self) -> list[Steered]:
        return [*([self.sink] if self.sink else []), *self.generators]
