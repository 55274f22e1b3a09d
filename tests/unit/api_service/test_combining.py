"""Combining: nobody waits for nothing, nobody returns too early, and a fault stays with its own."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from api_service import accept, combining, schemas
from api_service.accept import Origin
from api_service.combining import Combiner
from api_service.database import DatabaseUnavailableError
from shared.db.accepting import NewNotification
from shared.records import Topics


def notification(recipient: str, message: str = "hello") -> NewNotification:
    """One that is known by its recipient."""
    request = schemas.load({"channel": "email", "recipient": f"{recipient}@example.com", "message": message})
    return accept.prepare(request, topics=Topics(), origin=Origin())


Post = Callable[..., "Future[None]"]


class Table:
    """Where notifications are written to: each statement waits for leave, and fails as it is told."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.written: Counter[str] = Counter()
        self.fails: Callable[[str], BaseException | None] = lambda _names: None
        self.leave = threading.Semaphore(0)
        self.began = threading.Semaphore(0)

    def write(self, news: list[NewNotification]) -> None:
        """Write all of them, or raise."""
        names = "".join(new.recipient.partition("@")[0] for new in news)
        self.statements.append(names)
        self.began.release()
        assert self.leave.acquire(timeout=10)
        if error := self.fails(names):
            raise error
        self.written.update(names)


@pytest.fixture
def table() -> Table:
    """An empty one."""
    return Table()


@pytest.fixture
def combiner(table: Table) -> Combiner:
    """A combiner that writes to it."""
    return Combiner(table.write)


@pytest.fixture
def post(combiner: Combiner) -> Iterator[Post]:
    """Post each name's notification from a thread of its own, in this order."""
    with ThreadPoolExecutor(16) as threads:

        def post(name: str, message: str = "hello") -> "Future[None]":
            waiting = combiner.waiting
            idle = not combiner.is_writing
            future = threads.submit(combiner.write, [notification(name, message)])
            until(lambda: future.done() or (combiner.is_writing if idle else combiner.waiting > waiting))
            return future

        yield post


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_where_nothing_is_under_way_nobody_waits(combiner: Combiner, table: Table) -> None:
    """It is written at once, on the thread that asks."""
    threads: list[int] = []
    table.fails = lambda _: threads.append(threading.get_ident())
    table.leave.release(2)

    combiner.write([notification("a")])
    combiner.write([notification("b")])

    assert table.statements == ["a", "b"]
    assert threads == [threading.get_ident()] * 2
    assert not combiner.is_writing


def test_what_arrives_meanwhile_goes_together(table: Table, post: Post) -> None:
    """In the next statement, in the order of arrival; who comes during that one goes in the one after it."""
    first = post("a")
    second = [post(name) for name in "bcd"]
    table.leave.release()
    first.result(timeout=10)
    until(lambda: len(table.statements) == 2)
    third = [post(name) for name in "ef"]
    table.leave.release(2)
    for future in second + third:
        future.result(timeout=10)

    assert table.statements == ["a", "bcd", "ef"]
    assert table.written == Counter("abcdef")


def test_nobody_returns_before_its_own_statement_has(table: Table, post: Post) -> None:
    """The answer stands for a commit."""
    first, *others = [post(name) for name in "abc"]
    table.leave.release()
    first.result(timeout=10)
    until(lambda: len(table.statements) == 2)
    time.sleep(0.05)
    returned = [future.done() for future in others]
    table.leave.release()

    assert returned == [False, False]
    assert [future.result(timeout=10) for future in others] == [None, None]


@pytest.mark.parametrize("names", ["xbc", "bxc", "bcx"])
def test_a_fault_touches_no_other(table: Table, post: Post, names: str) -> None:
    """Whoever of them writes: each is written alone then, and one of them fails."""
    table.fails = lambda written: ValueError("no x") if "x" in written else None
    first = post("a")
    futures = {name: post(name) for name in names}
    table.leave.release(10)

    first.result(timeout=10)
    for name, future in futures.items():
        if name == "x":
            with pytest.raises(ValueError, match="no x"):
                future.result(timeout=10)
        else:
            future.result(timeout=10)
    assert (table.statements[:2], sorted(table.statements[2:])) == (["a", names], ["b", "c", "x"])
    assert table.written == Counter("abc")


def test_a_database_that_is_away_is_so_for_all(table: Table, post: Post) -> None:
    """Each gets an error of its own; none asks again in vain, and whoever comes next is heard."""
    table.fails = lambda written: DatabaseUnavailableError("lock_timeout") if written == "bc" else None
    first, *others = [post(name) for name in "abc"]
    table.leave.release(2)

    first.result(timeout=10)
    errors = [future.exception(timeout=10) for future in others]
    assert [(type(error), str(error)) for error in errors] == [(DatabaseUnavailableError, "lock_timeout")] * 2
    assert errors[0] is not errors[1]
    table.leave.release()
    post("d").result(timeout=10)
    assert table.statements == ["a", "bc", "d"]


def test_whoever_fails_hands_on(table: Table, post: Post) -> None:
    """Also when its thread is ended by something that is no fault at all."""
    table.fails = {"a": ValueError("a"), "b": SystemExit(1)}.get
    first, second = post("a"), post("b")
    table.leave.release()
    with pytest.raises(ValueError, match="a"):
        first.result(timeout=10)
    until(lambda: len(table.statements) == 2)
    third = post("c")
    table.leave.release(2)

    with pytest.raises(SystemExit):
        second.result(timeout=10)
    third.result(timeout=10)
    assert table.statements == ["a", "b", "c"]


def test_a_statement_has_its_bounds(table: Table, post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """In notifications, and in bytes unless a single one has more."""
    monkeypatch.setattr(combining, "MAX_TOGETHER", 3)
    monkeypatch.setattr(combining, "MAX_TOGETHER_BYTES", 5000)
    futures = [post("a"), *(post(name) for name in "bcdef"), post("g", "m" * 3000), post("h", "m" * 9000), post("i")]
    table.leave.release(20)
    for future in futures:
        future.result(timeout=10)

    assert table.statements == ["a", "bcd", "efg", "h", "i"]


def test_many_go_by_themselves(combiner: Combiner, table: Table, post: Post) -> None:
    """A batch waits for nobody."""
    first = post("a")
    with ThreadPoolExecutor(1) as threads:
        batch = threads.submit(combiner.write, [notification("b"), notification("c")])
        until(lambda: len(table.statements) == 2)
        table.leave.release(2)
        batch.result(timeout=10)
    first.result(timeout=10)

    assert table.statements == ["a", "bc"]


def test_each_is_written_once_whatever_happens_around_it() -> None:
    """Sixteen threads, statements that fail at random: who was told that it is written is, and nobody else."""
    rng, lock = random.Random(7), threading.Lock()
    written: Counter[Any] = Counter()

    def write(news: list[NewNotification]) -> None:
        with lock:
            fate = rng.random()
        time.sleep(fate / 2000)
        if any(new.recipient.startswith("bad") for new in news):
            raise ValueError
        if fate < 0.1:
            raise DatabaseUnavailableError("refused")
        with lock:
            written.update(new.id for new in news)

    combiner = Combiner(write)

    def run(number: int) -> list[tuple[NewNotification, str]]:
        told = []
        for count in range(100):
            new = notification("bad" if (number + count) % 17 == 0 else "good")
            try:
                combiner.write([new])
            except (ValueError, DatabaseUnavailableError) as error:
                told.append((new, type(error).__name__))
            else:
                told.append((new, "written"))
        return told

    with ThreadPoolExecutor(16) as threads:
        told = [one for part in threads.map(run, range(16)) for one in part]

    assert set(written.values()) == {1}
    assert written.keys() == {new.id for new, verdict in told if verdict == "written"}
    assert {verdict for new, verdict in told if new.recipient.startswith("bad")} <= {
        "ValueError",
        "DatabaseUnavailableError",
    }
    assert {verdict for new, verdict in told if new.recipient.startswith("good")} == {
        "written",
        "DatabaseUnavailableError",
    }
    assert (combiner.waiting, combiner.is_writing) == (0, False)
