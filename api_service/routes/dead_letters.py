"""Dead letters: look at them, send them again, or let them rest."""

from dataclasses import asdict
from typing import Any, Final
from uuid import UUID

import flask
from flask import Response
from psycopg import Connection

from api_service import bodies, dead_letter_schemas, queries
from api_service import dead_letter_documents as documents
from api_service.actions import Action
from api_service.auditing import Change, audited
from api_service.callers import Scope
from api_service.problems import Problem
from api_service.queries import LetterStatus
from api_service.representations import DEAD_LETTERS_PATH, letter_detail, letter_summary, letter_with_actions
from api_service.responses import json_response
from api_service.routing import Routes
from api_service.services import cursors, decider, in_tenant, tenant_id
from shared.db import attempts, dlq_actions, dlq_groups, dlq_messages
from shared.db.dlq_actions import Done
from shared.db.dlq_messages import DeadLetter, Filter

routes: Final = Routes("dead letters", "What could not be delivered, and what a person does about it.")


@routes.add("GET", DEAD_LETTERS_PATH, scope=Scope.ADMIN, doc=documents.LIST_DEAD_LETTERS)
def list_dead_letters() -> Response:
    """List dead letters, newest first, without their payloads."""
    query = queries.load(queries.DEAD_LETTERS, flask.request.args)
    limit, places = query["limit"], cursors("dead_letter")
    where = Filter(
        tenant_id=tenant_id(),
        status=query.get("status"),
        failure_class=query.get("failure_class"),
        channel=query.get("channel"),
        fingerprint=query.get("fingerprint"),
        before=queries.place(query, places.read_instant),
    )
    letters = in_tenant(lambda conn: dlq_messages.list_page(conn, where, limit=limit + 1))
    shown, more = letters[:limit], len(letters) > limit
    cursor = places.of_instant((shown[-1].first_failed_at, shown[-1].id)) if more else None
    return json_response({"data": [letter_summary(one) for one in shown], "next_cursor": cursor, "has_more": more})


@routes.add("GET", f"{DEAD_LETTERS_PATH}/groups", scope=Scope.ADMIN, doc=documents.GROUP_DEAD_LETTERS)
def group() -> Response:
    """Count what has not been resolved by its cause, the largest groups first.

    A cause is a failure class, a destination and a reason: its fingerprint is what a retry of the group filters by.
    """
    query = queries.load(queries.GROUPS, flask.request.args)
    groups, count = in_tenant(
        lambda conn: dlq_groups.largest(
            conn,
            tenant_id=tenant_id(),
            status=query["status"],
            failure_class=query.get("failure_class"),
            channel=query.get("channel"),
            limit=query["limit"],
        )
    )
    return json_response({"data": [asdict(one) for one in groups], "groups": count, "has_more": count > len(groups)})


@routes.add("GET", f"{DEAD_LETTERS_PATH}/<uuid:dead_letter_id>", scope=Scope.ADMIN, doc=documents.SHOW_DEAD_LETTER)
def show(dead_letter_id: UUID) -> Response:
    """Show a dead letter with its original payload, its attempts, and what persons did about it."""

    def read(conn: Connection[Any]) -> dict[str, Any]:
        letter = _find(conn, dead_letter_id)
        history = attempts.history(conn, letter.notification_id) if letter.notification_id else []
        return letter_detail(letter, history, dlq_actions.history(conn, dead_letter_id))

    return json_response(in_tenant(read))


def _find(conn: Connection[Any], dead_letter_id: UUID) -> DeadLetter:
    letter = dlq_messages.find(conn, dead_letter_id, tenant_id=tenant_id())
    if letter is None:
        raise Problem("not_found", "there is no dead letter with this id")
    return letter


@routes.add(
    "POST", f"{DEAD_LETTERS_PATH}/<uuid:dead_letter_id>/retry", scope=Scope.ADMIN, doc=documents.RETRY_DEAD_LETTER
)
def retry(dead_letter_id: UUID) -> Response:
    """Send a failed dead letter again now, as the next attempt of its notification.

    A body may say who decides, and why. A repeat is refused with 409 while the attempt is on its way.
    """
    said = read_decision()

    def replay(conn: Connection[Any]) -> tuple[dict[str, Any], Change]:
        replayed = dlq_actions.replay(conn, dead_letter_id, tenant_id=tenant_id(), **said)
        letter = _find(conn, dead_letter_id)
        if not replayed:
            raise _not_replayable(letter)
        body = letter_with_actions(letter, dlq_actions.history(conn, dead_letter_id))
        return body, _change(Action.DEAD_LETTER_RETRIED, letter, by=said["by"])

    return json_response(audited(replay, repeatable=False), 202)


def _change(action: Action, letter: DeadLetter, *, by: str) -> Change:
    """Return what is noted of a dead letter that was failed before."""
    after = {"status": letter.status, "retry_count": letter.retry_count, "by": by}
    return Change(action, str(letter.id), {"status": LetterStatus.FAILED}, after)


def read_decision() -> dict[str, Any]:
    """Return who decides, and why, in the optional body. Raises Problem."""
    body = bodies.read_optional_json()
    said = bodies.load(dead_letter_schemas.DECISION, {} if body is None else body)
    return said | {"by": decider(said["by"])}


def _not_replayable(letter: DeadLetter) -> Problem:
    if letter.notification_id is None:
        detail = "its bytes could not be decoded, so they name no notification that could be sent again"
    elif letter.status == "failed":
        detail = "its notification has moved on since this failure"
    else:
        detail = f"a dead letter that is {letter.status} cannot be sent again"
    return Problem("wrong_state", detail, extra={"state": letter.status})


@routes.add(
    "POST", f"{DEAD_LETTERS_PATH}/<uuid:dead_letter_id>/discard", scope=Scope.ADMIN, doc=documents.DISCARD_DEAD_LETTER
)
def discard(dead_letter_id: UUID) -> Response:
    """Resolve a failed dead letter without another attempt, for a reason that is kept.

    Repeating it changes nothing and answers 200 again.
    """
    body = bodies.read_optional_json()
    said = bodies.load(dead_letter_schemas.DISCARD, {} if body is None else body)  # so that `reason` is asked for
    by, note = decider(said["by"]), said["reason"]

    def resolve(conn: Connection[Any]) -> tuple[dict[str, Any], Change | None]:
        discarded = dlq_actions.discard(conn, dead_letter_id, tenant_id=tenant_id(), by=by, note=note)
        letter = _find(conn, dead_letter_id)
        if not discarded:
            detail = f"a dead letter that is {letter.status} cannot be discarded"
            raise Problem("wrong_state", detail, extra={"state": letter.status})
        body = letter_with_actions(letter, dlq_actions.history(conn, dead_letter_id))
        return body, _change(Action.DEAD_LETTER_DISCARDED, letter, by=by) if discarded is Done.NOW else None

    return json_response(audited(resolve))
