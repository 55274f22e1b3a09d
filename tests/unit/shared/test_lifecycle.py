"""A service hears SIGTERM whatever it is doing, and a loop that stands still ends its process."""

import subprocess
import sys

import pytest

HEARS = """
import os, signal, threading
from shared.lifecycle import stop_on_signals

stop = stop_on_signals()
with stop._cond:  # as in the middle of stop.wait()
    os.kill(os.getpid(), signal.{signum})
    threading.Event().wait(0.1)
print("heard" if stop.wait(10) else "deaf")
"""

STANDS = """
import asyncio, ctypes
from shared.lifecycle import end_if_stuck

async def run():
    guard = asyncio.create_task(end_if_stuck(1.0))
    await asyncio.sleep(1.5)
    print("goes on", flush=True)
    {stand}
    guard.cancel()
    await asyncio.wait([guard])
    await asyncio.sleep(1.5)
    print("ended by itself", flush=True)

asyncio.run(run())
"""
HOLDS_THE_LOCK = "ctypes.PyDLL(None).sleep(20)"  # a call of C that does not let go of the interpreter's lock


def python(program: str) -> "subprocess.CompletedProcess[str]":
    """Run a program in an interpreter of its own."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("signum", ["SIGTERM", "SIGINT"])
def test_a_signal_is_heard_while_the_main_thread_holds_the_events_lock(signum: str) -> None:
    """A handler on that thread would wait for the lock for ever."""
    assert python(HEARS.format(signum=signum)).stdout.split() == ["heard"]


@pytest.mark.parametrize("stand", ["__import__('time').sleep(20)", HOLDS_THE_LOCK])
def test_a_loop_that_stands_still_ends_its_process_and_says_where(stand: str) -> None:
    """Even while nothing else of Python can run."""
    ended = python(STANDS.format(stand=stand))

    assert (ended.returncode, ended.stdout.split("\n")[0]) == (1, "goes on")
    assert "in run" in ended.stderr


def test_a_loop_that_turns_is_left_alone() -> None:
    """And once the guard is cancelled, nothing is left that could end the process."""
    ended = python(STANDS.format(stand="pass"))

    assert (ended.returncode, ended.stdout.split("\n")[:2]) == (0, ["goes on", "ended by itself"])
