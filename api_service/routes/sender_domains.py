"""Sender domains: what a tenant's e-mail may be from, shown to be its own by a record in DNS."""

import secrets
from typing import Any, Final

from flask import Response
from psycopg import Connection

from api_service import addresses, bodies, endpoint_schemas, sender_domain_documents, sender_domain_schemas
from api_service.actions import Action
from api_service.auditing import Change, audited
from api_service.callers import Scope
from api_service.faults import Fault, FaultyValueError, FieldFault
from api_service.problems import RETRY_AFTER_S, Problem, invalid
from api_service.representations import SENDER_DOMAINS_PATH
from api_service.responses import json_response, no_content
from api_service.routing import Routes
from api_service.services import in_tenant, services, tenant_id
from api_service.txt_records import LookupFailedError, txt_records
from shared.db import sender_domains
from shared.db.sender_domains import SenderDomain

MOST: Final = 100
_LABEL: Final = "_notification-pipeline"
_ONE: Final = f"{SENDER_DOMAINS_PATH}/<domain>"
routes: Final = Routes("sender domains", "What a tenant's e-mail may be from.")


@routes.add("POST", SENDER_DOMAINS_PATH, scope=Scope.ADMIN, doc=sender_domain_documents.ADD)
def add() -> Response:
    """Add a domain; the answer has the TXT record that proves whose it is. Repeating it changes nothing."""
    domain = endpoint_schemas.load(sender_domain_schemas.NEW, bodies.read_json())["domain"]
    token = secrets.token_hex(16)

    def store(conn: Connection[Any]) -> tuple[SenderDomain, Change | None]:
        new = sender_domains.add(conn, domain, token, tenant_id=tenant_id())
        if new and len(sender_domains.list_all(conn, tenant_id=tenant_id())) > MOST:
            raise invalid([FieldFault("/domain", Fault("too_many", f"a tenant has at most {MOST} sender domains"))])
        after = {"domain": domain}
        return _find(conn, domain), Change(Action.SENDER_DOMAIN_ADDED, domain, None, after) if new else None

    return json_response(_shown(audited(store)))


def _shown(one: SenderDomain) -> dict[str, Any]:
    return {
        "domain": one.domain,
        "status": "verified" if one.verified else "unverified",
        "record": {"type": "TXT", "name": f"{_LABEL}.{one.domain}", "value": _value(one)},
        "created_at": one.created_at,
        "verified_at": one.verified_at,
        "href": f"{SENDER_DOMAINS_PATH}/{one.domain}",
    }


def _value(one: SenderDomain) -> str:
    return f"notification-pipeline={one.token}"


def _find(conn: Connection[Any], domain: str) -> SenderDomain:
    found = sender_domains.find(conn, domain, tenant_id=tenant_id())
    if found is None:
        raise _unknown()
    return found


def _unknown() -> Problem:
    return Problem("not_found", "this tenant has no such sender domain")


def _wanted(domain: str) -> str:
    """Return the domain in a path as it is stored. Raises Problem 404 for what is none, as for an unknown one."""
    try:
        return addresses.checked_domain(domain)
    except FaultyValueError:
        raise _unknown() from None


@routes.add("GET", SENDER_DOMAINS_PATH, scope=Scope.ADMIN, doc=sender_domain_documents.LIST)
def list_domains() -> Response:
    """List the tenant's domains by name, at most 100."""
    found = in_tenant(lambda conn: sender_domains.list_all(conn, tenant_id=tenant_id()))
    return json_response({"data": [_shown(one) for one in found]})


@routes.add("GET", _ONE, scope=Scope.ADMIN, doc=sender_domain_documents.SHOW)
def show(domain: str) -> Response:
    """Show a domain and the record that proves whose it is."""
    wanted = _wanted(domain)
    return json_response(_shown(in_tenant(lambda conn: _find(conn, wanted))))


@routes.add("POST", f"{_ONE}/verify", scope=Scope.ADMIN, doc=sender_domain_documents.VERIFY)
def verify(domain: str) -> Response:
    """Look for the record in DNS: where it is found, e-mail may be from this domain and those below it.

    It is looked for once; that a domain is verified ends when it is deleted. Repeating it is harmless.
    """
    wanted = _wanted(domain)
    one = in_tenant(lambda conn: _find(conn, wanted))
    if not one.verified:
        _look_for(one)

    def note(conn: Connection[Any]) -> tuple[SenderDomain, Change | None]:
        news = sender_domains.verify(conn, wanted, tenant_id=tenant_id())
        was, became = {"verified": False}, {"verified": True}
        return _find(conn, wanted), Change(Action.SENDER_DOMAIN_VERIFIED, wanted, was, became) if news else None

    return json_response(_shown(audited(note)))


def _look_for(one: SenderDomain) -> None:
    """Raise Problem unless DNS holds the domain's record. No transaction is open meanwhile."""
    try:
        with services().lookups.one():
            found = txt_records(f"{_LABEL}.{one.domain}", servers=services().settings.dns_servers)
    except LookupFailedError as error:
        headers = {"Retry-After": str(RETRY_AFTER_S)}
        raise Problem("lookup_failed", "no name server answered; repeat this", headers=headers) from error
    if _value(one) not in found:
        detail = f"{_LABEL}.{one.domain} has {len(found)} TXT records, and none is the one asked for"
        raise Problem("not_verified", detail, extra={"record": _shown(one)["record"]})


@routes.add("DELETE", _ONE, scope=Scope.ADMIN, doc=sender_domain_documents.DELETE)
def delete(domain: str) -> Response:
    """Delete a domain: within five seconds no notification can name it; what was accepted before still goes out."""
    wanted = _wanted(domain)

    def remove(conn: Connection[Any]) -> tuple[None, Change]:
        one = _find(conn, wanted)
        if not sender_domains.delete(conn, wanted, tenant_id=tenant_id()):
            raise _unknown()  # somebody else has just done so
        was = {"domain": wanted, "verified": one.verified}
        return None, Change(Action.SENDER_DOMAIN_DELETED, wanted, was, None)

    audited(remove)
    return no_content()
