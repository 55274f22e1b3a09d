"""The directory that the processes of one service share: their counts, and what else they keep together.

kill -9 leaves it behind; the next one of the service to start removes it. Whether it is in use is told by a lock, which
the kernel holds for as long as any process of the service lives: a process id may be another's by now, or of another
container with the same directory mounted.
"""

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_OWNER: Final = "owner"


@dataclass(frozen=True, slots=True)
class RuntimeDir:
    """A directory that is held; a process that was forked, or was passed `lock_fd`, holds it too."""

    path: Path
    lock_fd: int

    @property
    def counts(self) -> Path:
        """Where the processes leave their counts, see shared.telemetry.share_counts."""
        return counts_in(self.path)


def counts_in(directory: Path) -> Path:
    """Where below a runtime directory the counts are."""
    return directory / "counts"


@contextlib.contextmanager
def held(name: str, parent: Path | None = None) -> Iterator[RuntimeDir]:
    """Make a directory `name-...` in `parent` (that of temporary files) and hold it.

    At the end the process that made it removes it; abandoned ones of the same name are removed now.
    """
    parent = parent or Path(tempfile.gettempdir())
    _remove_abandoned(parent, name)
    # It gets its final name once it is locked: nobody finds it before.
    made = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=parent))
    maker = os.getpid()
    lock = os.open(made / _OWNER, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(lock, f"{maker}\n".encode())
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    counts_in(made).mkdir()
    directory = made.rename(parent / made.name.removeprefix("."))
    try:
        yield RuntimeDir(directory, lock)
    finally:
        if os.getpid() == maker:
            shutil.rmtree(directory, ignore_errors=True)
            os.close(lock)


def _remove_abandoned(parent: Path, name: str) -> None:
    for directory in parent.glob(f"{name}-*"):
        with contextlib.suppress(OSError):  # another one was quicker, or it is in use
            status = directory.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
                _remove_unless_held(directory)


def _remove_unless_held(directory: Path) -> None:
    lock = os.open(directory / _OWNER, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory, ignore_errors=True)
    finally:
        os.close(lock)
