"""Latencies as HDR histograms: three digits kept from a microsecond to an hour, whatever is recorded in between.

They are cut into seconds by the processes that record, and added up by the one that reports: adding loses nothing.
"""

from typing import Final

from hdrh.histogram import HdrHistogram

from loadtest.results import Latency

LOWEST_US: Final = 1
HIGHEST_US: Final = 3_600_000_000
DIGITS: Final = 3
_PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9)


class Histogram:
    """Durations in microseconds."""

    def __init__(self) -> None:
        self._hdr = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)

    @property
    def count(self) -> int:
        """How many were recorded."""
        return int(self._hdr.total_count)

    def record(self, us: int) -> None:
        """Record one; what is outside the range counts as its end."""
        self._hdr.record_value(min(max(us, LOWEST_US), HIGHEST_US))

    def take(self) -> str:
        """Return what was recorded since the last time, as text for `add`."""
        if not self.count:
            return ""
        text: str = self._hdr.encode().decode()
        self._hdr.reset()
        return text

    def add(self, taken: str) -> None:
        """Add what another histogram's `take` returned."""
        if taken:
            self._hdr.decode_and_add(taken)

    def ms(self, percentile: float) -> float | None:
        """A percentile in milliseconds, None of nothing."""
        return self._hdr.get_value_at_percentile(percentile) / 1000 if self.count else None

    def latency(self, name: str) -> Latency | None:
        """The figures of a report, None of nothing."""
        if not self.count:
            return None
        p50, p90, p99, p999 = (self._hdr.get_value_at_percentile(one) / 1000 for one in _PERCENTILES)
        return Latency(name, self.count, p50, p90, p99, p999, self._hdr.get_max_value() / 1000)
