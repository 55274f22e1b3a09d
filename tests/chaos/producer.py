"""A careful client in a process of its own: invokes, remembers, repeats under its key until answered, cancels.

Every answer is one of three: ok, fail (it was not accepted), unknown. Run as
`python -m tests.chaos.producer RUN_DIR NUMBER`.
"""

import heapq
import http.client
import itertools
import sys
import time
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import orjson

from tests.chaos.config import Config, destinations_of
from tests.chaos.ledger import Ledger, now
from tests.chaos.load import Drawer, Request

PATH = "/api/v1/notifications"
_TIMEOUT_S = 8.0
_GIVE_UP_S = 25.0
_BEHIND_S = 2.0  # a producer that was held up does not catch up on more than this
_CANCELS_AT_A_TIME = 20

Answer = tuple[int, dict[str, str], bytes]


class Client:
    """One kept connection. `post` returns None when nobody knows what became of the request."""

    def __init__(self, url: str, *, api_key: str) -> None:
        parts = urlsplit(url)
        self._credential = {"Authorization": f"Bearer {api_key}"}
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._conn: http.client.HTTPConnection | None = None
        self.unsent = False  # the last failure came before the first byte went out

    def call(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> Answer | None:
        """Send one request and read its answer."""
        headers = self._credential | ({"Content-Type": "application/json"} if body is not None else {})
        if key:
            headers["Idempotency-Key"] = key
        self.unsent = True
        try:
            if self._conn is None:
                self._conn = http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_S)
                self._conn.connect()
            self.unsent = False
            self._conn.request(method, path, None if body is None else orjson.dumps(body), headers)
            response = self._conn.getresponse()
            content = response.read()
        except (TimeoutError, OSError, http.client.HTTPException):
            self.close()
            return None
        if response.will_close:
            self.close()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, content

    def close(self) -> None:
        """Forget the connection."""
        if self._conn is not None:
            self._conn.close()
        self._conn = None


class Producer:
    """One sequential client: the next request goes out when the last one has its answer or was given up."""

    def __init__(self, config: Config, ledger: Ledger, drawer: Drawer, rng: Random, number: int) -> None:
        self._config, self._ledger, self._rng, self._number = config, ledger, rng, number
        self._requests = drawer.requests()
        self._client = Client(config.api_url, api_key=config.api_key)
        self._cancels: list[tuple[float, int, str]] = []
        self._counter = itertools.count()

    def run(self) -> None:
        """Produce at the rate asked for until the load ends, then carry out the cancels that are left."""
        rate = self._config.rate / self._config.producers
        due = self._config.began_at
        while now() < self._config.ends_at:
            self._cancel_due()
            if (ahead := due - now()) > 0:
                time.sleep(min(ahead, 0.02))
                continue
            request = next(self._requests)
            self._handle(request)
            due = max(due + max(1, len(request.items)) / rate, now() - _BEHIND_S)
        while self._cancels and now() < self._config.ends_at + _GIVE_UP_S:
            self._cancel_due()
            time.sleep(0.02)

    def _handle(self, request: Request) -> None:
        name = f"{self._number}-{request.number}"
        body = self._body(request)
        path = PATH + "/batch" if request.kind == "batch" else PATH
        self._ledger.write(
            {"e": "invoke", "t": now(), "r": name, "kind": request.kind, "key": request.key,
             "items": [item.entry() for item in request.items]}
        )  # fmt: skip
        result, ids, tries = self._until_known(path, body, request.key)
        self._ledger.write({"e": result, "t": now(), "r": name, "ids": ids, "tries": tries})
        for item, notification_id in zip(request.items, ids, strict=False):
            if item.cancel_after_s is not None:
                heapq.heappush(self._cancels, (now() + item.cancel_after_s, next(self._counter), notification_id))
        if request.repeat and result == "ok":
            self._repeat(request, path, body, name)

    @staticmethod
    def _body(request: Request) -> Any:
        if request.invalid is not None:
            return request.invalid
        bodies = [item.body for item in request.items]
        return bodies if request.kind == "batch" else bodies[0]

    def _until_known(self, path: str, body: Any, key: str | None) -> tuple[str, list[str], list[int]]:
        """Return ok, fail or unknown, the ids, and the status of each try (0: no answer)."""
        tries: list[int] = []
        unknown = False
        began = now()
        while True:
            answer = self._client.call("POST", path, body, key=key)
            status = answer[0] if answer else 0
            tries.append(status)
            if answer and status == 202:
                return "ok", self._ids(answer[2]), tries
            if 400 <= status < 500 and status != 409:
                return ("unknown" if unknown else "fail"), [], tries
            unknown = unknown or not (answer is None and self._client.unsent)
            if not key and unknown:
                return "unknown", [], tries
            if now() - began > _GIVE_UP_S or now() > self._config.ends_at + _GIVE_UP_S / 2:
                return ("unknown" if unknown else "fail"), [], tries
            time.sleep(self._rng.uniform(0.05, 0.5))

    @staticmethod
    def _ids(content: bytes) -> list[str]:
        answer = orjson.loads(content)
        return [one["id"] for one in answer["notifications"]] if "notifications" in answer else [answer["id"]]

    def _repeat(self, request: Request, path: str, body: Any, name: str) -> None:
        """Send a request again under its key, as it was or with another body."""
        if request.repeat == "other":
            changed = [*body[:-1], body[-1] | {"message": "another"}] if request.kind == "batch" else body | {
                "message": "another"}  # fmt: skip
            answer = self._client.call("POST", path, changed, key=request.key)
            self._ledger.write({"e": "misused", "t": now(), "r": name, "status": answer[0] if answer else 0})
            return
        answer = self._client.call("POST", path, body, key=request.key)
        ids = self._ids(answer[2]) if answer and answer[0] == 202 else []
        replayed = bool(answer) and answer is not None and answer[1].get("idempotent-replayed") == "true"
        entry = {"e": "repeated", "t": now(), "r": name, "status": answer[0] if answer else 0, "ids": ids}
        self._ledger.write(entry | {"replayed": replayed})

    def _cancel_due(self) -> None:
        for _ in range(_CANCELS_AT_A_TIME):
            if not self._cancels or self._cancels[0][0] > now():
                return
            _, _, notification_id = heapq.heappop(self._cancels)
            self._ledger.write({"e": "cancel", "t": now(), "id": notification_id})
            answer = self._client.call("DELETE", f"{PATH}/{notification_id}")
            state = orjson.loads(answer[2]).get("state") if answer and answer[0] == 409 else None
            status = answer[0] if answer else 0
            entry = {"e": "cancelled", "t": now(), "id": notification_id, "status": status, "state": state}
            self._ledger.write(entry)


def main() -> None:
    """Produce."""
    run_dir, number = Path(sys.argv[1]), int(sys.argv[2])
    config = Config.load(run_dir)
    drawer = Drawer(Random(f"{config.seed}/{number}"), number, destinations_of(run_dir), config.hooks_port)
    with Ledger(run_dir / "ledgers" / f"producer-{number}.jsonl") as ledger:
        Producer(config, ledger, drawer, Random(f"{config.seed}/{number}/pauses"), number).run()


if __name__ == "__main__":
    main()
