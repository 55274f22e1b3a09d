"""Ids and states."""

import pickle
import threading
import time
from uuid import UUID

from shared.model import MOVES, Status, UuidV7Factory, uuid7_unix_ms


def test_ids_are_version_7_and_carry_the_time() -> None:
    """RFC 9562: version and variant in place, milliseconds in the first 48 bits."""
    before = time.time_ns() // 1_000_000
    made = UuidV7Factory()()

    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert before <= uuid7_unix_ms(made) <= before + 1000


def test_an_id_is_like_any_other_uuid() -> None:
    """It is made without the constructor."""
    made = UuidV7Factory()()
    same = UUID(int=made.int)

    assert made == same
    assert (hash(made), str(made), made.is_safe, pickle.dumps(made)) == (
        *(hash(same), str(same), same.is_safe, pickle.dumps(same)),
    )


def test_ids_rise_strictly_also_across_threads() -> None:
    """More than 4,096 in a millisecond borrow from the next; none repeats, each thread sees its own rise."""
    factory = UuidV7Factory()
    made: list[list[UUID]] = []

    def make() -> None:
        made.append([factory() for _ in range(5000)])

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({id_ for ids in made for id_ in ids}) == 20_000
    assert all(ids == sorted(ids) for ids in made)


def test_every_status_says_what_may_follow() -> None:
    """Three states are final; failed may be tried again, suppressed go on once its suppression is lifted."""
    assert set(MOVES) == set(Status)
    final = {status for status, following in MOVES.items() if not following}
    assert final == {Status.SENT, Status.CANCELLED, Status.EXPIRED}
