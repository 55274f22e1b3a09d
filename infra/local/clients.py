"""Both ends of the pipeline as a demo or a test sees them: the API that takes, and the receivers that are reached."""

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

NOTIFICATIONS = "/api/v1/notifications"
DEAD_LETTERS = "/api/v1/dead-letters"
_UNFINISHED = ("pending", "processing", "failed")  # a scheduled one may wait for as long as it likes
_WAIT_S = 20.0
_LOOKS_AT_REST, _BETWEEN_LOOKS_S = 5, 0.5

T = TypeVar("T")


def request_to_paste(api_url: str, api_key: str) -> str:
    """Return commands for a shell that send a mail."""
    body = '{"channel": "email", "recipient": "ada@example.org", "subject": "Hello", "message": "It works."}'
    return f"""export KEY={api_key}
  curl -i {api_url}{NOTIFICATIONS} -H "Authorization: Bearer $KEY" \\
    -H 'Content-Type: application/json' \\
    -d '{body}'"""


class UnmetError(Exception):
    """Something expected did not happen in time, or was not as expected."""


class Client:
    """One end, reached by HTTP; a context manager that closes its connections."""

    def __init__(self, base_url: str, *, api_key: str | None = None) -> None:
        self.base_url = base_url
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else None
        self.http = httpx.Client(base_url=base_url, timeout=30.0, trust_env=False, headers=headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()


class Producer(Client):
    """A client of the API."""

    def post(self, **notification: Any) -> str:
        """Have a notification accepted; return its id. Raises UnmetError for any answer but 202."""
        answer = self.http.post(NOTIFICATIONS, json=notification)
        if answer.status_code != 202:
            raise UnmetError(f"the API answered {answer.status_code}: {answer.text[:200]}")
        return str(answer.json()["id"])

    def post_batch(self, notifications: list[dict[str, Any]]) -> list[str]:
        """Have up to 1,000 notifications accepted by one request; return their ids in order."""
        answer = self.http.post(f"{NOTIFICATIONS}/batch", json=notifications).raise_for_status()
        return [one["id"] for one in answer.json()["notifications"]]

    def cancel(self, notification_id: str) -> int:
        """Ask for a cancel; return the answer's status code."""
        return self.http.post(f"{NOTIFICATIONS}/{notification_id}/cancel").status_code

    def status(self, notification_id: str) -> str:
        """The status of a notification now."""
        return str(got(self.http, f"{NOTIFICATIONS}/{notification_id}")["status"])

    def outcomes(self, notification_id: str) -> list[str]:
        """How each of its attempts ended, in order."""
        attempts = got(self.http, f"{NOTIFICATIONS}/{notification_id}")["attempts"]
        return [attempt["outcome"] for attempt in attempts]

    def dead_letter(self, notification_id: str, **filters: str) -> dict[str, Any] | None:
        """The dead letter of a notification, if there is one that fits the filters, such as status="resolved"."""
        letters = got(self.http, DEAD_LETTERS, **filters)["data"]
        return next((letter for letter in letters if letter["notification_id"] == notification_id), None)

    def wait_until_at_rest(self, *, timeout_s: float) -> None:
        """Return once nothing waits to be sent, is under way, or is to be tried again. Raises UnmetError.

        Seen on several looks in a row: one that fails is for a moment on none of the lists, until the dead letter
        consumer has read of it.
        """
        deadline, looks = time.monotonic() + timeout_s, 0
        while looks < _LOOKS_AT_REST:
            if time.monotonic() > deadline:
                raise UnmetError(f"after {timeout_s:.0f} s some are still pending, processing or failed")
            time.sleep(_BETWEEN_LOOKS_S)
            looks = 0 if self._any_unfinished() else looks + 1

    def _any_unfinished(self) -> bool:
        return any(got(self.http, NOTIFICATIONS, status=status, limit="1")["data"] for status in _UNFINISHED)

    def wait_for_status(self, notification_id: str, status: str) -> None:
        """Return once a notification has this status. Raises UnmetError if it has another one for too long."""
        wait_for(
            lambda: self.status(notification_id) == status,
            f"status {status}",
            now=lambda: f", it is {self.status(notification_id)}",
        )


class Receiver(Client):
    """The webhook receiver of this stack (webhook_receiver.py)."""

    def url(self, hook: str) -> str:
        """Where a hook takes deliveries."""
        return f"{self.base_url}/hooks/{hook}"

    def fail(self, hook: str, **behaviour: Any) -> None:
        """Have a hook misbehave, for example with status=503."""
        self.http.post("/behaviour", json={"path": f"/hooks/{hook}", **behaviour}).raise_for_status()

    def mend(self, hook: str) -> None:
        """Have a hook behave again."""
        self.http.delete("/behaviour", params={"path": f"/hooks/{hook}"}).raise_for_status()

    def received(self, hook: str, notification_id: str) -> list[dict[str, Any]]:
        """Every delivery of a notification to a hook, refused ones included, newest first."""
        return list(got(self.http, "/received", path=f"/hooks/{hook}", id=notification_id)["data"])

    def stats(self, hook: str) -> dict[str, Any]:
        """The totals of a hook."""
        return dict(got(self.http, "/stats", path=f"/hooks/{hook}"))

    def ids(self, hook: str) -> set[str]:
        """All notifications a hook has accepted."""
        return set(self.http.get("/ids", params={"path": f"/hooks/{hook}"}).raise_for_status().text.split())


class Mailbox(Client):
    """The mail sink of this stack (smtp_sink.py)."""

    def about(self, notification_id: str) -> list[dict[str, Any]]:
        """Every mail sent for a notification, newest first, with its text."""
        found = got(self.http, "/messages", notification_id=notification_id)["data"]
        return [dict(got(self.http, f"/messages/{mail['n']}")) for mail in found]


def got(client: httpx.Client, at: str, /, **parameters: str) -> Mapping[str, Any]:
    """GET a JSON object. Raises httpx.HTTPError for any answer but a good one."""
    answer = client.get(at, params=parameters)
    answer.raise_for_status()
    content: dict[str, Any] = answer.json()
    return content


def wait_for(look: Callable[[], T | None], what: str, *, now: Callable[[], str] = str, timeout_s: float = _WAIT_S) -> T:
    """Return the first true value of `look`. Raises UnmetError, with what is there `now`, when time is up."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        if time.monotonic() > deadline:
            raise UnmetError(f"{what} was not seen within {timeout_s:.0f} s{now()}")
        time.sleep(0.1)
    return found
