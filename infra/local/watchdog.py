"""Ends what a supervisor started when the supervisor itself died without a chance to.

Runs as a child with nothing but the standard library, in a session of its own, so that what kills the supervisor's
process group does not reach it. The supervisor holds the only write end of this program's standard input:

    + <pid> <signal>    a process group was started; send this signal if the supervisor dies
    - <pid>             it has ended and is of no further interest

End of input means the supervisor is gone, however it went. Works wherever there are pipes; PR_SET_PDEATHSIG, which
the supervisor uses as well where it exists, does not reach grandchildren and does not exist on macOS.
"""

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

GRACE_S = 3.0  # between the asked-for signal and SIGKILL


def descendants(pid: int) -> list[int]:
    """Return the pids of all living children of `pid`, their children, and so on; nearest first."""
    children: dict[int, list[int]] = defaultdict(list)
    for child, parent in _parents():
        children[parent].append(child)
    found, level = [], [pid]
    while level:
        level = [child for parent in level for child in children[parent]]
        found += level
    return found


def _parents() -> Iterable[tuple[int, int]]:
    """Yield (pid, parent pid) of every process, from /proc where there is one and from ps elsewhere."""
    if sys.platform != "linux":
        listing = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        yield from ((int(pid), int(parent)) for pid, parent in (line.split() for line in listing.splitlines()))
        return
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield int(entry.name), int(_stat_fields(int(entry.name))[1])
            except OSError:  # ended while we looked
                continue


def _stat_fields(pid: int) -> list[bytes]:
    """Return the fields of /proc/<pid>/stat from the state on: before it is a name that may hold anything."""
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()


def is_alive(pid: int) -> bool:
    """Say whether `pid` runs; one that has ended but was not reaped yet does not count, where that can be seen."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    if sys.platform == "linux":
        try:
            return _stat_fields(pid)[0] != b"Z"
        except OSError:
            return False
    return True


def signal_group(pid: int, signum: int) -> None:
    """Send a signal to the process group led by `pid`; a group that is gone is no error."""
    with suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group that holds only zombies
        os.killpg(pid, signum)


def signal_process(pid: int, signum: int) -> None:
    """Send a signal to one process; one that is gone is no error."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signum)


def end_all(registered: dict[int, int]) -> None:
    """Send each group its signal, wait up to GRACE_S for everything below it to end, then SIGKILL what is left."""
    # PostgreSQL's backends leave its process group (setsid), so groups alone would miss them.
    below = {pid: descendants(pid) for pid in registered}
    everything = [*registered, *(child for children in below.values() for child in children)]
    for pid, signum in registered.items():
        signal_group(pid, signum)
    for pid in everything:
        signal_process(pid, signal.SIGCONT)  # a stopped process would keep any signal but SIGKILL for later
    deadline = time.monotonic() + GRACE_S
    while time.monotonic() < deadline and any(is_alive(pid) for pid in everything):
        time.sleep(0.02)
    for pid in registered:
        signal_group(pid, signal.SIGKILL)
    for pid in everything:
        if is_alive(pid):
            signal_process(pid, signal.SIGKILL)


def main() -> None:
    """Follow the supervisor's messages until its end, then end what it left."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    registered: dict[int, int] = {}
    for line in sys.stdin:
        fields = line.split()
        if fields[0] == "+":
            registered[int(fields[1])] = int(fields[2])
        else:
            registered.pop(int(fields[1]), None)
    if registered:
        end_all(registered)


if __name__ == "__main__":
    main()
