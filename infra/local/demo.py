"""`make demo`: the pipeline's story on real servers and real processes, told so that a person can follow it."""

import fcntl
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra.local.background import LOCAL_DIR, ended_by_signals
from infra.local.clients import Mailbox, Producer, Receiver, UnmetError, request_to_paste
from infra.local.errors import LocalStackError
from infra.local.kafka import delete_topics
from infra.local.stack import Ports, Stack
from infra.local.story import BATCH_SIZE, BATCHES, Chapter, Promise, Story

_TOTAL = BATCHES * BATCH_SIZE
# What an operator would set to see in seconds what takes minutes in production; everything else is at its default.
_HURRY = {"RETRY_LADDER_S": "3,3,5,5,5,5", "DELIVERY_LEASE_S": "5"}
_PLAIN_EVERY_S = 2.0
_PLAIN_WIDTH = 130


def run(local_dir: Path = LOCAL_DIR) -> int:
    """Tell the story on a fresh data directory; return 0 if every promise held, else 1.

    Raises LocalStackError when the stack cannot be started. No process outlives it, however it ends.
    """
    began = time.monotonic()
    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    data_dir = local_dir / "demo"
    with alone(local_dir), ended_by_signals():
        shutil.rmtree(data_dir, ignore_errors=True)
        console.print("[bold]Starting[/] PostgreSQL, Apache Kafka, a mail sink, a webhook receiver, four services")
        with the_stack(data_dir, console) as stack:
            promises = tell(stack, console)
        kept = _clean_up(data_dir, keep=not all(promise.held for promise in promises))
    console.print(summary(promises))
    held = sum(promise.held for promise in promises)
    took_s = time.monotonic() - began
    console.print(f"{held} of {len(promises)} promises held, in {took_s:.0f} s.{kept}")
    return 0 if held == len(promises) else 1


@contextmanager
def alone(local_dir: Path) -> Iterator[None]:
    """Hold the demo's lock. Raises LocalStackError when another demo has it."""
    local_dir.mkdir(exist_ok=True)
    with (local_dir / "demo.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LocalStackError("Another demo is running in this clone; wait for its end.") from error
        yield


@contextmanager
def the_stack(data_dir: Path, console: Console) -> Iterator[Stack]:
    """Run a stack of the demo's own on free ports; topics made on somebody else's broker are removed again."""
    environ = demo_environ(os.environ)
    stack = Stack(data_dir, Ports.choose({}), environ=environ, say=lambda line: say(console, line))
    with ExitStack() as ending:
        if stack.kafka is None:
            ending.callback(delete_topics, stack.bootstrap_servers, stack.topics.all())
        ending.enter_context(stack)
        yield stack


def demo_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the demo's services; on a broker that is not ours the topics get a prefix of their own."""
    mine = {**environ, **_HURRY}
    if environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        mine["TOPIC_PREFIX"] = f"demo-{secrets.token_hex(4)}"
    return mine


def tell(stack: Stack, console: Console) -> list[Promise]:
    """Play all chapters; one that goes wrong is a promise that did not hold, and the story goes on."""
    promises: list[Promise] = []
    urls = stack.urls
    say(
        console,
        f"\nFor as long as the story lasts, from another terminal:\n  {request_to_paste(urls['api'], stack.api_key)}",
    )
    with (
        Producer(urls["api"], api_key=stack.api_key) as api,
        Mailbox(urls["mail"]) as mailbox,
        Receiver(urls["receiver"]) as receiver,
        progress_display(console) as display,
    ):
        story = Story(api, mailbox, receiver, stack.services, display.show)
        for chapter in story.chapters():
            console.print(f"\n[bold]{chapter.title}[/]")
            for promise in played(chapter):
                promises.append(promise)
                mark = "[green]✓[/]" if promise.held else "[red]✗[/]"
                say(console, f"  {mark} {promise.text}: {promise.seen}")
    return promises


def say(console: Console, line: str) -> None:
    """Print one line as it is, however narrow the terminal."""
    console.print(line, highlight=False, soft_wrap=True)


def played(chapter: Chapter) -> Iterator[Promise]:
    """Play one chapter; what it expected in vain becomes a promise that did not hold."""
    try:
        yield from chapter.play()
    except (UnmetError, httpx.HTTPError, LocalStackError) as error:
        yield Promise(chapter.title, held=False, seen=str(error) or type(error).__name__)


class Display:
    """Shows how far the batch is: bars on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console, progress: Progress | None) -> None:
        self._console = console
        self._progress = progress
        self._bars: list[TaskID] = []
        self._last_at = 0.0

    def show(self, accepted: int, delivered: int) -> None:
        """Show these numbers now."""
        if self._progress is not None:
            if not self._bars:  # not before: their clocks run from here
                self._bars = [self._progress.add_task(name, total=_TOTAL) for name in ("accepted ", "delivered")]
            for bar, number in zip(self._bars, (accepted, delivered), strict=True):
                self._progress.update(bar, completed=number)
        elif time.monotonic() - self._last_at >= _PLAIN_EVERY_S or delivered == _TOTAL:
            self._last_at = time.monotonic()
            say(self._console, f"  accepted {accepted:6,}   delivered {delivered:6,}")


@contextmanager
def progress_display(console: Console) -> Iterator[Display]:
    """Yield the display that suits the console."""
    if not console.is_terminal:
        yield Display(console, None)
        return
    columns = (TextColumn("  {task.description}"), BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        yield Display(console, progress)


def summary(promises: list[Promise]) -> Table:
    """The promises and what was seen of them."""
    table = Table(title="What was promised, and what was seen", title_justify="left", show_lines=False)
    table.add_column("")
    table.add_column("Promise", overflow="fold")
    table.add_column("Seen", overflow="fold")
    for promise in promises:
        table.add_row("[green]held[/]" if promise.held else "[bold red]BROKEN[/]", promise.text, promise.seen)
    return table


def _clean_up(data_dir: Path, *, keep: bool) -> str:
    """Remove the servers' data; after a broken promise keep it, and say where."""
    if keep:
        return f" Logs and data are in {data_dir}."
    for server in ("postgres", "kafka"):
        shutil.rmtree(data_dir / server, ignore_errors=True)
    return ""
