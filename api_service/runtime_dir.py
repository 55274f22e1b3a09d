"""The directory that the processes of one server share: their counts, and what the test receiver keeps.

kill -9 leaves it behind; the next server to start removes it. Whether it is in use is told by a lock, which the kernel
holds for as long as any process of the server lives: a process id may be another's by now, or of another container
with the same directory mounted.
"""

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PREFIX: Final = "notify-api-"
_OWNER: Final = "owner"


@contextlib.contextmanager
def held(parent: Path | None = None) -> Iterator[Path]:
    """Make a directory in `parent` (that of temporary files) and hold it; remove it at the end, and abandoned ones now.

    Processes forked inside the block hold it too, and leave its removal to the one that made it.
    """
    parent = parent or Path(tempfile.gettempdir())
    _remove_abandoned(parent)
    # It gets its final name once it is locked: nobody finds it before.
    made = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=parent))
    maker = os.getpid()
    lock = os.open(made / _OWNER, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(lock, f"{maker}\n".encode())
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    directory = made.rename(parent / made.name.removeprefix("."))
    try:
        yield directory
    finally:
        if os.getpid() == maker:
            shutil.rmtree(directory, ignore_errors=True)
            os.close(lock)


def _remove_abandoned(parent: Path) -> None:
    for directory in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another server was quicker, or it is in use
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
