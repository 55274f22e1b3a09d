"""The API, fuzzed by its own description: schemathesis over /openapi.json of an API on a PostgreSQL of its own."""

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from infra.local import testbed
from infra.local.ports import free_port
from infra.local.processes import ManagedProcess, Supervisor
from infra.local.stack import REPOSITORY
from tests.fuzz import rows
from tests.name_server import NameServer
from tests.servers import Database, PostgresServer

_REFUSALS: Final = ["400", "401", "403", "404", "405", "406", "409", "413", "414", "415", "422", "428", "429", "431"]
"""How what is not valid may be answered: schemathesis' own list, with what is too large for gunicorn, less 5xx."""
_SUPPRESSED: Final = "all"  # Hypothesis' health checks are about the test, not about the API
_SWEEP_S: Final = 1200
_GRACE_S: Final = 120  # what ends after its time: the last scenario, shrinking, reports


@dataclass(frozen=True)
class Target:
    """A running API."""

    url: str
    process: ManagedProcess
    database: Database


@dataclass
class ApiFuzzed:
    """What came of fuzzing the API as one caller."""

    caller: str
    cases: int = 0
    put_aside: int = 0  # failed checks that hooks.py has a reason for
    operations: str = ""
    statuses: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)


@contextmanager
def running_api(directory: Path) -> Iterator[Target]:
    """Start an API of two workers on a fresh database with some rows of every kind."""
    directory.mkdir(parents=True, exist_ok=True)
    with (
        testbed.lease("postgres", directory / "testbed") as at,
        Supervisor(directory / "logs") as supervisor,
        NameServer() as names,
    ):
        server = PostgresServer(at["port"], at["password"], at["template"], at["version"])
        database = server.create_database(f"fuzz_{secrets.token_hex(4)}")
        try:
            rows.fill(database)
            port = free_port()
            env = rows.environ(database, port, directory, dns_server=names.place)
            process = supervisor.process("api", [sys.executable, "-m", "api_service"], env=env, cwd=directory)
            process.log_path.unlink(missing_ok=True)
            process.start().wait_healthy(f"http://127.0.0.1:{port}/health/ready")
            yield Target(f"http://127.0.0.1:{port}", process, database)
            process.terminate()
        finally:
            server.drop_database(database.name)


def swept(target: Target, caller: rows.Caller, *, seed: int, directory: Path) -> ApiFuzzed:
    """Try each operation with each parameter at its bounds and beyond them, whatever time that takes.

    A finding is also that an operation was left out.
    """
    found = _ran(target, caller, directory, _SWEEP_S, "--phases", "examples,coverage", "--seed", str(seed))
    if len(set(found.operations.split(" of "))) > 1:
        found.findings.append(f"{found.operations} operations were tried")
    return found


def fuzzed(target: Target, caller: rows.Caller, *, seed: int, seconds: float, directory: Path) -> ApiFuzzed:
    """Send what a seed makes, operation by operation and in sequences, for so long."""
    limits = ("--seed", str(seed), "--max-time", str(max(1, int(seconds))))
    return _ran(target, caller, directory, seconds + _GRACE_S, "--phases", "fuzzing,stateful", *limits)


def _ran(target: Target, caller: rows.Caller, directory: Path, timeout_s: float, *options: str) -> ApiFuzzed:
    """Run schemathesis as one caller; a finding is a failed check, an error, or an answer of 500 in the API's log."""
    directory = directory / caller.name
    shutil.rmtree(directory, ignore_errors=True)  # what it remembers of a run before would be tried first
    directory.mkdir(parents=True)
    report = directory / "report.json"
    before = len(log_lines(target.process.log_path))
    command = [
        str(Path(sys.executable).with_name("st")), "--no-color", "--config-file", str(_configured(caller, directory)),
        "run", f"{target.url}/openapi.json", "--checks", "all", "--continue-on-failure", "--request-timeout", "30",
        "--suppress-health-check", _SUPPRESSED, "--generation-database", ":memory:", "--warnings", "off",
        "--report", "json", "--report-json-path", str(report), *options,
    ]  # fmt: skip
    output = directory / "output.txt"
    with output.open("wb") as out:
        done = subprocess.run(
            command,
            cwd=directory,
            env=_environ(caller),
            stdout=out,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
        )
    found = ApiFuzzed(caller.name)
    read_report(found, report, done.returncode, output)
    read_log(found, log_lines(target.process.log_path)[before:])
    return found


def _environ(caller: rows.Caller) -> dict[str, str]:
    hooks = {"SCHEMATHESIS_HOOKS": "tests.fuzz.hooks", "FUZZ_OWN_KEY": caller.key_id}
    return {**os.environ, **hooks, "PYTHONPATH": str(REPOSITORY)}


def _configured(caller: rows.Caller, directory: Path) -> Path:
    """Write schemathesis' settings: who calls, and who else must not see what is theirs."""
    everybody = (caller, *caller.others)
    auth = directory / "callers.json"
    auth.write_text(
        json.dumps({"auth": [{"name": one.name, "fixedHeaders": _named(one.headers)} for one in everybody]})
    )
    config = directory / "schemathesis.toml"
    config.write_text(
        f"""
[generation]
mode = "all"
[checks.negative_data_rejection]
expected-statuses = {json.dumps(_REFUSALS)}
[auth]
auto-signup = false
[auth.wfc]
path = {json.dumps(str(auth))}
user = {json.dumps(caller.name)}
peers = {json.dumps([one.name for one in everybody])}
"""
    )
    return config


def _named(headers: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in headers.items()]


def read_report(found: ApiFuzzed, report: Path, code: int, output: Path) -> None:
    """Note what schemathesis found, as its report and its exit code say."""
    if not report.exists():
        found.findings.append(f"schemathesis ended with {code} and no report: see {output}")
        return
    said = json.loads(report.read_text())
    found.cases, found.put_aside = said["test_cases"]["generated"], said["filtered"]
    operations = said["operations"] or {}
    found.operations = f"{operations.get('tested')} of {operations.get('total')}"
    for one in said["failures"]:
        found.findings.append(
            f"{one['title']} ({one['code']}, {one['count']}): {', '.join(_labels(one['operations']))}"
        )
    found.findings += [f"{one['title']} ({one['count']}): see {output}" for one in said["errors"]]
    if code and not found.findings:
        found.findings.append(f"schemathesis ended with {code}: see {output}")


def _labels(operations: Sequence[Any]) -> list[str]:
    return [one if isinstance(one, str) else str(one.get("label", one)) for one in operations][:5]


def read_log(found: ApiFuzzed, lines: list[dict[str, Any]]) -> None:
    """Note what the API itself tells: each answer, and what it calls an error."""
    for line in lines:
        if line.get("event") == "request":
            found.statuses[str(line["status"])] += 1
            if line["status"] >= 500:
                found.findings.append(f"{line['status']} to {line['method']} {line['route']}: {line.get('problem')}")
        elif line.get("level") in ("error", "critical") or "stack" in line:
            found.findings.append(f"the API logged {line.get('event')}: {line.get('error')} {line.get('stack', '')}")


def log_lines(path: Path) -> list[dict[str, Any]]:
    """Return a log's lines; one that is no JSON is an error of its own."""
    lines = []
    for text in filter(None, path.read_text(errors="replace").split("\n")):
        try:
            lines.append(json.loads(text))
        except ValueError:
            lines.append({"event": f"a line that is not JSON: {text[:200]}", "level": "error"})
    return [line for line in lines if isinstance(line, dict)]
