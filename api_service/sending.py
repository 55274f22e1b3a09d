"""From what has been prepared to what its client is answered, whoever serves the request."""

from collections.abc import Sequence
from typing import Final

from api_service import metrics
from api_service.accept import write_once
from api_service.idempotency import Answer, KeyedRequest, accept_once
from api_service.representations import NOTIFICATIONS_PATH, accepted, notification_path
from api_service.responses import dumps
from api_service.services import Services
from shared.db.accepting import NewNotification

SEND: Final = f"POST {NOTIFICATIONS_PATH}"
"""What an idempotency key of a single notification is used for."""


def answer_to(new: NewNotification) -> Answer:
    """Return what the client of a single notification is answered once it has been written."""
    return Answer(202, dumps(accepted(new)), notification_path(new.id))


def send(services: Services, keyed: KeyedRequest | None, news: Sequence[NewNotification], answer: Answer) -> Answer:
    """Write what has been prepared, under its key if it has one; return the answer, or the one that its key has.

    Raises DatabaseUnavailableError, and Problem where the key belongs to another request or one that is running.
    """
    if keyed is not None:
        answer = services.database.run(lambda conn: accept_once(conn, keyed, news, answer))
    else:
        services.database.run(lambda conn: write_once(conn, news))
    if answer.replayed:
        metrics.REPLAYS.inc()
    else:
        metrics.count_accepted(news)
    return answer
