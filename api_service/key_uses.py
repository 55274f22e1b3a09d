"""Which keys were used lately, written down off the path of the requests that used them."""

import logging
import threading
import time
from typing import Final

import psycopg

from api_service.database import Database, DatabaseUnavailableError
from shared.db import api_keys

log = logging.getLogger(__name__)
WRITE_EVERY_S: Final = 5.0
NOTED_EVERY_S: Final = 60.0
_CLOSED_WITHIN_S: Final = 2.0


class KeyUses:
    """Notes each key at most once a minute. To be made after the fork: it has a thread."""

    def __init__(self, database: Database, *, write_every_s: float = WRITE_EVERY_S) -> None:
        self._database = database
        self._every_s = write_every_s
        self._used: set[str] = set()
        self._noted: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="key-uses", daemon=True)
        self._thread.start()

    def note(self, key_id: str) -> None:
        """Remember that a key was used now."""
        self._used.add(key_id)

    def close(self) -> None:
        """Write what is left, and end."""
        self._stop.set()
        self._thread.join(_CLOSED_WITHIN_S)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self.run_once()
        self.run_once()

    def run_once(self) -> int:
        """Write what was used and not noted within the last minute; return how many keys. An outage loses it."""
        used, self._used = self._used, set()
        now = time.monotonic()
        self._noted = {key_id: at for key_id, at in self._noted.items() if now - at < NOTED_EVERY_S}
        due = sorted(used - self._noted.keys())
        if not due:
            return 0
        try:
            self._database.run(lambda conn: api_keys.touch(conn, due))
        except DatabaseUnavailableError:
            return 0
        except psycopg.Error:  # a bug of ours, or a right that is missing: no reason to stop noting
            log.exception("key_uses_not_noted")
            return 0
        self._noted |= dict.fromkeys(due, now)
        return len(due)
