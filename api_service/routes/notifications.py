"""One notification at a time: send, show, list, cancel."""

from typing import Any, Final
from uuid import UUID

import flask
from flask import Response
from psycopg import Connection

from api_service import accept, bodies, documents, queries, schemas, sending
from api_service.callers import Scope
from api_service.idempotency import Answer, KeyedRequest, keyed_request
from api_service.problems import Problem, invalid
from api_service.representations import NOTIFICATION_PATHS, NOTIFICATIONS_PATH, detail, summary
from api_service.responses import json_response
from api_service.routing import Routes
from api_service.sending import SEND, answer_to
from api_service.services import caller, cursors, in_tenant, origin, services, tenant_id
from shared.db import attempts, dlq_messages, notification_lists, notifications
from shared.db.accepting import NewNotification
from shared.db.notification_lists import Filter, Notification
from shared.model import Status

routes: Final = Routes("notifications", "Send notifications and follow them.")


@routes.add("POST", *NOTIFICATION_PATHS, scope=Scope.SEND, doc=documents.SEND)
def send() -> Response:
    """Accept one notification.

    202 means that it is stored and will be delivered; it is written together with its outbox row in one transaction.
    """
    body = bodies.read_json()
    keyed = keyed_request(flask.request.headers, SEND, body, tenant_id=tenant_id())
    try:
        wanted = schemas.load(body, default_webhook_url=services().settings.default_webhook_url)
    except schemas.InvalidRequestError as error:
        return replay_or_refuse(keyed, invalid(error.faults))
    if faults := services().known.faults([wanted], tenant_id=tenant_id()):
        return replay_or_refuse(keyed, invalid(list(faults.values())))
    new = accept.prepare(wanted, topics=services().topics, origin=origin())
    return answered(keyed, [new], answer_to(new))


def replay_or_refuse(keyed: KeyedRequest | None, problem: Problem) -> Response:
    """Answer a repeat of what was valid when it was accepted, such as a scheduled_for that has passed since."""
    if keyed is None:
        raise problem
    answer = sending.find_earlier(services(), keyed)
    if answer is None:
        raise problem
    return _respond(answer)


def answered(keyed: KeyedRequest | None, news: list[NewNotification], answer: Answer) -> Response:
    """Write what has been prepared, under its key if it has one, and answer."""
    answer = sending.send(services(), caller(), keyed, news, answer)
    if not answer.replayed and len(news) == 1:
        flask.g.notification_id = str(news[0].id)
    return _respond(answer)


def _respond(answer: Answer) -> Response:
    return json_response(answer.body, answer.status, dict(answer.headers()))


@routes.add("GET", f"{NOTIFICATIONS_PATH}/<uuid:notification_id>", scope=Scope.READ, doc=documents.SHOW)
def show(notification_id: UUID) -> Response:
    """Show a notification with its attempts."""
    return json_response(in_tenant(lambda conn: _detail(conn, notification_id)))


def _detail(conn: Connection[Any], notification_id: UUID) -> dict[str, Any]:
    flask.g.notification_id = str(notification_id)
    found = _find(conn, notification_id)
    dead_letter_id = dlq_messages.find_id(conn, notification_id)
    held = notification_lists.held_for(conn, notification_id) if found.status == Status.SUPPRESSED else None
    return detail(found, attempts.history(conn, notification_id), dead_letter_id, held)


def _find(conn: Connection[Any], notification_id: UUID) -> Notification:
    found = notification_lists.find(conn, notification_id, tenant_id=tenant_id())
    if found is None:
        raise Problem("not_found", "there is no notification with this id")
    return found


@routes.add("GET", NOTIFICATIONS_PATH, scope=Scope.READ, doc=documents.LIST)
def list_notifications() -> Response:
    """List notifications, newest first.

    A page may be short, or empty, with more to come: go on until has_more is false.
    """
    query = queries.load(queries.NOTIFICATIONS, flask.request.args)
    places, limit = cursors("notification"), query["limit"]
    where = _filter(query, queries.place(query, places.read_id))
    page = in_tenant(lambda conn: notification_lists.list_page(conn, where, limit=limit + 1))
    shown, before = page.notifications[:limit], page.next_before
    if len(page.notifications) > limit:
        before = shown[-1].id
    return json_response(
        {
            "data": [summary(one) for one in shown],
            "next_cursor": places.of_id(before) if before else None,
            "has_more": before is not None,
        }
    )


def _filter(query: dict[str, Any], before: UUID | None) -> Filter:
    high = _first_id_at(query.get("until"))
    if before:
        high = min(before, high) if high else before
    return Filter(
        tenant_id=tenant_id(),
        status=query.get("status"),
        channel=query.get("channel"),
        recipient=query.get("recipient"),
        low=_first_id_at(query.get("since")),
        high=high,
    )


def _first_id_at(instant: Any) -> UUID | None:
    """Return the lowest UUIDv7 of a millisecond; one before 1970 is the lowest of all."""
    return None if instant is None else UUID(int=max(0, int(instant.timestamp() * 1000)) << 80)


@routes.add("POST", f"{NOTIFICATIONS_PATH}/<uuid:notification_id>/cancel", scope=Scope.SEND, doc=documents.CANCEL)
@routes.add("DELETE", f"{NOTIFICATIONS_PATH}/<uuid:notification_id>", scope=Scope.SEND, doc=documents.CANCEL)
def cancel(notification_id: UUID) -> Response:
    """Cancel what has not been claimed for delivery.

    After 200 no attempt begins. A repeat answers 200 again.
    """
    return json_response(in_tenant(lambda conn: _cancel(conn, notification_id)))


def _cancel(conn: Connection[Any], notification_id: UUID) -> dict[str, Any]:
    cancelled = notifications.cancel(conn, notification_id, tenant_id=tenant_id())
    body = _detail(conn, notification_id)
    if not cancelled:
        raise Problem(
            "wrong_state",
            f"a notification that is {body['status']} cannot be cancelled",
            extra={"state": body["status"]},
        )
    return body
