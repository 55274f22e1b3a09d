"""How a receiver answers: how long it takes, and in which way it fails until when. Pure."""

import math
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Literal, get_args

Way = Literal["ok", "status", "hang", "garbage", "refused"]
_Z99: Final = 2.3263478740408408  # of the normal distribution: 99 of 100 are below


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a receiver takes to answer: log-normal, by its median and its 99th percentile."""

    median_s: float
    p99_s: float

    def draw(self, rng: Random) -> float:
        """Draw one; below a tenth of a millisecond it is none, as no timer is so fine."""
        if self.median_s <= 0:
            return 0.0
        sigma = max(0.0, math.log(max(self.p99_s, self.median_s) / self.median_s) / _Z99)
        drawn = rng.lognormvariate(math.log(self.median_s), sigma)
        return drawn if drawn >= 0.0001 else 0.0


@dataclass(frozen=True, slots=True)
class Manner:
    """What an origin does with a share of its deliveries, until it heals."""

    way: Way = "ok"
    status: int = 200
    share: float = 1.0
    retry_after_s: float | None = None
    until_us: int | None = None  # by the machine's monotonic clock; None: for good

    @classmethod
    def parse(cls, content: dict[str, Any]) -> "Manner":
        """Read what a steersman says. Raises ValueError."""
        manner = cls(**{name: content[name] for name in cls.__slots__ if name in content})
        if manner.way not in get_args(Way) or not 0 <= manner.share <= 1 or not 200 <= manner.status <= 599:
            raise ValueError(f"no way to answer: {content}")
        return manner

    def now(self, now_us: int) -> "Manner":
        """Itself, or good manners once it has healed."""
        return OK if self.until_us is not None and now_us >= self.until_us else self

    def hits(self, rng: Random) -> bool:
        """Say whether this delivery is one of the share."""
        return self.way != "ok" and (self.share >= 1 or rng.random() < self.share)


OK: Final = Manner()
