"""What a run was made on: versions, machine, command, settings. Nothing secret, and no path of this machine."""

import os
import platform
import shlex
import subprocess
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import confluent_kafka
import psutil
import psycopg

from infra.local.kafka_jars import KAFKA_VERSION
from infra.local.stack import REPOSITORY
from loadtest.profiles import Profile
from loadtest.sampling import MIB

_PACKAGES: Final = ("psycopg", "flask", "gunicorn", "marshmallow", "httpx", "aiosmtplib", "uvloop", "hdrhistogram")


def versions(*, database_url: str | None, embedded: bool) -> dict[str, str]:
    """What took part, with its version."""
    found = {"commit": _commit(), "python": platform.python_version(), "librdkafka": confluent_kafka.libversion()[0]}
    if embedded:
        found["kafka"] = KAFKA_VERSION
    if database_url:
        try:
            with psycopg.connect(database_url, connect_timeout=5) as conn:
                found["postgresql"] = str(conn.execute("SHOW server_version").fetchone()[0])  # type: ignore[index]
        except psycopg.Error:
            found["postgresql"] = "out of reach"
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str | int | float]:
    """The machine, and how busy it was with something else."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        "memory_gib": round(psutil.virtual_memory().total / MIB / 1024, 1),
        "cpu": _cpu(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_at_start": round(os.getloadavg()[0], 2),
    }


class Stolen:
    """The share of this machine's time that its host gave to others since this was made: figures are worse by it."""

    def __init__(self) -> None:
        self._before = psutil.cpu_times()

    def facts(self) -> dict[str, str | int | float]:
        """Return `stolen_percent`; nothing where the kernel does not count it."""
        now = psutil.cpu_times()
        if not hasattr(now, "steal"):
            return {}
        stolen, everything = now.steal - self._before.steal, sum(now) - sum(self._before)
        return {"stolen_percent": round(100 * stolen / everything, 1) if everything else 0.0}


def settings(profile: Profile, *, target: str) -> dict[str, str]:
    """Everything the profile says, flat."""
    flat = {"target": target}
    for name, value in asdict(profile).items():
        if name in ("name", "about", "limits") or (name == "search" and profile.kind != "stress"):
            continue
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": _shown(inner) for key, inner in value.items()}
        else:
            flat[name] = _shown(value)
    return flat


def command() -> str:
    """What prints this run again."""
    return shlex.join(["python", "-m", "loadtest", *sys.argv[1:]])


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner:g}" if isinstance(inner, float) else f"{key}={inner}"
                         for key, inner in value.items())  # fmt: skip
    if isinstance(value, tuple | list):
        return "; ".join(_shown(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    found = next((line for line in lines if line.startswith("model name")), "")
    return found.partition(":")[2].strip() or platform.processor() or platform.machine()


def _commit() -> str:
    asked = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(asked, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
