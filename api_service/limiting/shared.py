"""Counts that all processes share, in Redis or Valkey; while it is away each counts by itself.

The keys and their meaning are those of limits.storage.RedisStorage, so that its strategies read what is counted here.
Its own script takes from one window, and a request has to fit into several: taken from one after the other, a client
that runs into the shortest would use up the longest meanwhile. So this one looks at all, and takes from all or from
none, in one round trip.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from limits.storage import RedisStorage
from redis import ConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from api_service import metrics
from api_service.limiting.memory import Asked, Memory
from api_service.limiting.windows import Count, Taken, used, wait_s

log = logging.getLogger(__name__)
T = TypeVar("T")
ANSWERS_WITHIN_S: Final = 0.1
ASK_AGAIN_AFTER_S: Final = 2.0
"""While it is away, one request in so long asks whether it still is."""

_TAKE: Final = """
local counts, refused, cost = {}, 0, tonumber(ARGV[1])
for i = 1, #KEYS / 2 do
  local previous, current = KEYS[2 * i - 1], KEYS[2 * i]
  local amount, window = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1]) * 1000
  local left = redis.call('pttl', current)
  if left > 0 and left < window then
    redis.call('rename', current, previous)
    redis.call('set', current, 0, 'PX', left + window)
  end
  local before, weight = tonumber(redis.call('get', previous) or 0), math.max(0, redis.call('pttl', previous))
  local now, ends = tonumber(redis.call('get', current) or 0), redis.call('pttl', current)
  if refused == 0 and math.floor(before * weight / window) + now + cost > amount then refused = i end
  counts[i] = {before, weight, now, ends}
end
if refused == 0 then
  for i = 1, #KEYS / 2 do
    if counts[i][4] > 0 then
      redis.call('incrby', KEYS[2 * i], cost)
    else
      redis.call('set', KEYS[2 * i], cost, 'PX', tonumber(ARGV[2 * i + 1]) * 2000)
    end
  end
end
return {refused, counts}
"""
_SPEND: Final = """
local spent, cost = tonumber(redis.call('get', KEYS[1]) or 0), tonumber(ARGV[2])
if spent + cost > tonumber(ARGV[1]) then return 0 end
redis.call('set', KEYS[1], math.max(0, spent + cost), 'PX', ARGV[3])
return 1
"""
_GIVE_BACK: Final = """
local spent = tonumber(redis.call('get', KEYS[1]) or 0)
if spent > 0 then redis.call('set', KEYS[1], math.max(0, spent - tonumber(ARGV[1])), 'KEEPTTL') end
return 0
"""


class Shared:
    """Counts as Memory does, for all processes that are given the same URL. To be made after the fork."""

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        url = _url_for_redis(url)
        pool = ConnectionPool.from_url(
            url,
            socket_timeout=ANSWERS_WITHIN_S,
            socket_connect_timeout=ANSWERS_WITHIN_S,
            client_name="notify-api",
            retry=Retry(NoBackoff(), 0),  # a second try would be a second wait, and there is something to fall back on
        )
        self._storage = RedisStorage(url, connection_pool=pool)
        register: Any = self._storage.get_connection().register_script
        self._scripts = {text: register(text) for text in (_TAKE, _SPEND, _GIVE_BACK)}
        self._alone = Memory()
        self._clock = clock
        self._lock = threading.Lock()
        self._away_until = 0.0
        self._is_away = False

    def take(self, asked: Sequence[Asked], cost: int, now: float) -> Taken:
        """Count a request against all windows of all that is asked, or, where one refuses it, against none."""
        return self._asked(lambda: self._take(asked, cost), lambda: self._alone.take(asked, cost, now))

    def spend(self, key: str, amount: int, cost: int, *, now: float, until: float) -> bool:
        """Take `cost` of what a quota allows until an instant, all or nothing; say whether there was enough."""
        ends_in_ms = max(1, int((until - now) * 1000))
        return self._asked(
            lambda: bool(self._run(_SPEND, [self._storage.prefixed_key(key)], [amount, cost, ends_in_ms])),
            lambda: self._alone.spend(key, amount, cost, now=now, until=until),
        )

    def give_back(self, key: str, cost: int) -> None:
        """Return what was taken for nothing."""
        self._asked(
            lambda: self._run(_GIVE_BACK, [self._storage.prefixed_key(key)], [cost]),
            lambda: self._alone.give_back(key, cost),
        )

    def _take(self, asked: Sequence[Asked], cost: int) -> Taken:
        windows = [window for _, policy in asked for window in policy.windows]
        keys = [
            f"{self._storage.PREFIX}:{{{window.item.key_for(key)}}}{place}"
            for key, policy in asked
            for window in policy.windows
            for place in ("/-1", "")
        ]
        numbers = [number for window in windows for number in (window.amount, window.seconds)]
        refused, found = self._run(_TAKE, keys, [cost, *numbers])
        counts = [
            Count(before, now, max(weight, ends - 1000 * window.seconds, 0) / 1000)
            for window, (before, weight, now, ends) in zip(windows, found, strict=True)
        ]
        if refused:
            window, count = windows[refused - 1], counts[refused - 1]
            return Taken(False, window, max(0, window.amount - used(window, count)), wait_s(window, count, cost))
        left = [window.amount - used(window, count) - cost for window, count in zip(windows, counts, strict=True)]
        least = left.index(min(left))
        return Taken(True, windows[least], max(0, left[least]), counts[least].left_s or windows[least].seconds)

    def _run(self, script: str, keys: list[str], numbers: list[int]) -> Any:
        return self._scripts[script](keys, numbers)

    def _asked(self, ask: Callable[[], T], alone: Callable[[], T]) -> T:
        """Return what the store says, or, while it is away, what this process knows by itself."""
        with self._lock:
            if self._is_away and self._clock() < self._away_until:
                return alone()
            if self._is_away:
                self._away_until = self._clock() + ASK_AGAIN_AFTER_S  # the others go on meanwhile
        try:
            answer = ask()
        except (RedisError, OSError) as error:
            self._went(away=True, error=error)
            return alone()
        self._went(away=False)
        return answer

    def _went(self, *, away: bool, error: Exception | None = None) -> None:
        with self._lock:
            if away:
                self._away_until = self._clock() + ASK_AGAIN_AFTER_S
            if away == self._is_away:
                return
            self._is_away = away
        metrics.LIMITS_COUNTED_ALONE.set(int(away))
        if away:
            log.warning("limits_store_away", extra={"reason": type(error).__name__})
        else:
            log.info("limits_store_back")


def _url_for_redis(url: str) -> str:
    """Return the URL as redis reads it, which speaks to Valkey as well."""
    return "redis" + url.removeprefix("valkey") if url.startswith("valkey") else url
