"""Clients of the API that keep asking: one connection, and a steady load with a ledger of what was answered."""

import http.client
import itertools
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import orjson

from tests.proofs.lab import Entrance, RunError

NOTIFICATIONS = "/api/v1/notifications"
_TIMEOUT_S = 10.0
_AGAIN_AFTER_S = 0.02


class NoAnswerError(RunError):
    """The connection was refused, cut, or silent for too long: nobody can say what became of the request."""


class RefusedError(RunError):
    """The API answered, and did not accept."""


class Api:
    """One connection to the API, made anew when it was lost; for one thread."""

    def __init__(self, entrance: Entrance) -> None:
        self._port = entrance.port
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {entrance.key}"}
        self._connection: http.client.HTTPConnection | None = None

    def request(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """Ask once; return status and JSON. Raises NoAnswerError."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT_S)
        content = None if body is None else orjson.dumps(body)
        try:
            self._connection.request(method, path, content, {**self._headers, **headers})
            answer = self._connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise NoAnswerError(str(error)) from error
        try:
            return answer.status, orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise NoAnswerError(f"{answer.status}, not JSON") from error

    def insist(self, method: str, path: str, body: object = None, *, give_up_at: float, **headers: str) -> Any:
        """Ask until there is an answer below 500; return (status, JSON, asked at, answered at) of that one.

        Only for what may be repeated. `give_up_at` is Unix time; raises NoAnswerError then.
        """
        while True:
            asked_at = time.time()
            with suppress(NoAnswerError):
                status, answer = self.request(method, path, body, **headers)
                if status < 500:
                    return status, answer, asked_at, time.time()
            if time.time() > give_up_at:
                raise NoAnswerError(f"{method} {path.rpartition('/')[2]}: no answer")
            time.sleep(_AGAIN_AFTER_S)

    def accept(self, items: list[dict[str, Any]], *, give_up_at: float) -> list[str]:
        """Have a batch accepted under a key, however often it has to be asked for; return the ids in order.

        Raises RefusedError where nothing of it was accepted, NoAnswerError where that is unknown.
        """
        key = {"Idempotency-Key": uuid.uuid4().hex}
        while True:
            status, answer, _, _ = self.insist("POST", f"{NOTIFICATIONS}/batch", items, give_up_at=give_up_at, **key)
            if status == 202:
                return [str(one["id"]) for one in answer["notifications"]]
            if status != 409 or time.time() > give_up_at:  # 409: an earlier try with this key is still under way
                raise RefusedError(f"a batch was answered {status}: {str(answer)[:300]}")
            time.sleep(_AGAIN_AFTER_S)

    def close(self) -> None:
        """Close the connection; the next request makes another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """One request of a load that was answered 202; instants are Unix seconds."""

    n: int
    id: str
    asked_at: float  # when the request that was answered left; earlier ones of its key went unanswered
    answered_at: float


class Load:
    """Posts single notifications at a steady rate until it is left; what gets no answer is asked again by its key.

    The rate is kept by the clock, not by the answers: requests held up by an outage follow at once when it ends.
    """

    def __init__(
        self, entrance: Entrance, make: Callable[[int], dict[str, Any]], *, per_s: float, clients: int = 8
    ) -> None:
        self._entrance, self._make, self._per_s, self._clients = entrance, make, per_s, clients
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._run = uuid.uuid4().hex
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(clients)]
        self.accepted: list[Accepted] = []
        self.given_up: list[int] = []  # asked for, never answered: whether they were accepted is unknown
        self.refused: list[tuple[int, int]] = []  # number and status of an answer that is none of ours
        self.repeats = 0

    def __enter__(self) -> Self:
        self._began_at = time.time()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=40)

    def _work(self) -> None:
        api = Api(self._entrance)
        for n in self._numbers:
            due_at = self._began_at + n / self._per_s
            if self._stop.wait(max(0.0, due_at - time.time())):
                break
            self._post(api, n)
        api.close()

    def _post(self, api: Api, n: int) -> None:
        body, key = self._make(n), f"{self._run}-{n}"
        gives_up_at = float("inf")
        while time.time() < gives_up_at:
            asked_at = time.time()
            with suppress(NoAnswerError):
                status, answer = api.request("POST", NOTIFICATIONS, body, **{"Idempotency-Key": key})
                if status == 202:
                    self.accepted.append(Accepted(n, str(answer["id"]), asked_at, time.time()))
                    return
                if status < 500 and status != 409:  # 409: the first try with this key is still under way
                    self.refused.append((n, status))
                    return
            self.repeats += 1
            if self._stop.is_set():
                gives_up_at = min(gives_up_at, time.time() + 20)
            time.sleep(_AGAIN_AFTER_S)
        self.given_up.append(n)
