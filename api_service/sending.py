"""From what has been prepared to what its client is answered, whoever serves the request."""

from collections.abc import Sequence
from typing import Final

from api_service import metrics
from api_service.accept import write_once
from api_service.callers import Caller
from api_service.database import DatabaseUnavailableError
from api_service.idempotency import Answer, KeyedRequest, accept_once, find_answer
from api_service.problems import Problem
from api_service.representations import NOTIFICATIONS_PATH, accepted, notification_path
from api_service.responses import dumps
from api_service.services import Services
from shared.db.accepting import NewNotification

SEND: Final = f"POST {NOTIFICATIONS_PATH}"
"""What an idempotency key of a single notification is used for."""


def answer_to(new: NewNotification) -> Answer:
    """Return what the client of a single notification is answered once it has been written."""
    return Answer(202, dumps(accepted(new)), notification_path(new.id))


def send(
    services: Services, caller: Caller, keyed: KeyedRequest | None, news: Sequence[NewNotification], answer: Answer
) -> Answer:
    """Write what has been prepared, under its key if it has one; return the answer, or the one that its key has.

    Raises DatabaseUnavailableError, and Problem where the key belongs to another request or one that is running, or the
    day's quota of the caller's tenant is used up. A repeat costs nothing of it, nor does what was surely not written.
    """
    try:
        services.limits.spend(caller, len(news))
    except Problem:
        if keyed is None or (earlier := find_earlier(services, keyed)) is None:
            raise
        return earlier
    try:
        answer = _write(services, keyed, news, answer)
    except Problem:
        services.limits.give_back(caller, len(news))
        raise
    except DatabaseUnavailableError as error:
        if not error.may_be_done:
            services.limits.give_back(caller, len(news))
        raise
    if answer.replayed:
        services.limits.give_back(caller, len(news))
        metrics.REPLAYS.inc()
    else:
        metrics.count_accepted(news)
    return answer


def find_earlier(services: Services, keyed: KeyedRequest) -> Answer | None:
    """Return the answer that a key has, None where it has none. Raises Problem where it belongs to another request."""
    answer = services.database.run(lambda conn: find_answer(conn, keyed), tenant_id=keyed.tenant_id)
    if answer is not None:
        metrics.REPLAYS.inc()
    return answer


def _write(services: Services, keyed: KeyedRequest | None, news: Sequence[NewNotification], answer: Answer) -> Answer:
    if keyed is not None:
        return services.database.run(lambda conn: accept_once(conn, keyed, news, answer))
    services.database.run(lambda conn: write_once(conn, news))
    return answer
