"""Which offset is safe to commit."""

from hypothesis import given
from hypothesis import strategies as st

from delivery_consumer.offsets import PartitionOffsets


def test_the_safe_offset_waits_for_the_lowest_open_record() -> None:
    """Records that end out of order move it only once those before them have ended."""
    offsets = PartitionOffsets()
    offsets.begin([5, 6, 9])

    assert offsets.safe == 5
    assert offsets.done(9) == 5
    assert offsets.done(5) == 6
    assert offsets.done(6) == 10


def test_nothing_read_is_nothing_to_commit() -> None:
    """A fresh partition keeps whatever is committed."""
    assert PartitionOffsets().safe is None


def test_repeats_change_nothing() -> None:
    """The same offset may be begun and ended again."""
    offsets = PartitionOffsets()
    offsets.begin([1, 2])
    offsets.done(1)
    offsets.begin([1, 2])

    assert offsets.done(1) == 2
    assert offsets.done(2) == 3


@given(st.sets(st.integers(0, 300), min_size=1, max_size=60), st.data())
def test_safe_is_always_the_lowest_open_offset(log: set[int], data: st.DataObject) -> None:
    """Whatever the gaps and the order of endings: everything below the safe offset has ended, and it rises only."""
    offsets, read = PartitionOffsets(), sorted(log)
    offsets.begin(read)
    still_open, last = set(read), -1

    for offset in data.draw(st.permutations(read)):
        safe = offsets.done(offset)
        still_open.discard(offset)
        assert safe == (min(still_open) if still_open else read[-1] + 1)
        assert safe >= last
        last = safe

    assert offsets.open_count == 0
