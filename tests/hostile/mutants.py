"""What holds each row of hostile input, taken away: a row's tests have to fail without it.

`python -m tests.hostile` tries each on a copy of the repository. A mechanism that is a library's is taken away by doing
without the library, or by telling it to be lax; where two hold a row, each by itself, both go.
"""

from dataclasses import dataclass

from tests.chaos.rewriting import Edit

UNIT, INTEGRATION = "tests/unit", "tests/integration"
API, DELIVERY, SHARED = "/api_service", "/delivery_consumer", "/shared"


@dataclass(frozen=True, slots=True)
class Mutant:
    """A mechanism that is off, the rows it holds, and where their tests are."""

    name: str
    rows: tuple[int, ...]
    tests: str  # a directory or file; of it, the tests with a row's number in their names are run
    edits: tuple[Edit, ...]


def _mutant(name: str, rows: str, tests: str, *edits: tuple[str, str, str]) -> Mutant:
    return Mutant(name, tuple(map(int, rows.split())), tests, tuple(Edit(*edit) for edit in edits))


_JSON = "api_service.strict_json"
_BODIES = "api_service.bodies"
_HTTP = f"{INTEGRATION}{API}/test_hostile_http.py"
_BODY = f"{UNIT}{API}/test_hostile_json.py"
_MAIL = f"{INTEGRATION}{DELIVERY}/test_hostile_mail.py"
_CONNECTING = "delivery_consumer.providers.connecting"
_MIME = "delivery_consumer.providers.mime"
_NAMESPACE = "tests/hostile/test_addresses.py"
_JUDGED = (
    "                if any(is_forbidden(address, port, self._allowed) for address in addresses):\n"
    '                    raise ForbiddenAddressError("address_forbidden")\n'
)

MUTANTS: tuple[Mutant, ...] = (
    # Bodies
    _mutant(
        "read_by_the_standard_library", "1 3 5 6", _BODY,
        (_JSON, "        value = orjson.loads(body)\n", "        value = json.loads(body)\n"),
        (_JSON, "        rewritten = orjson.dumps(value)\n", "        rewritten = json.dumps(value).encode()\n"),
    ),
    _mutant(
        "not_inspected", "2 4 7", _BODY,
        (_JSON, "        _inspect(body)\n    return value", "        pass\n    return value"),
    ),
    _mutant(
        "anything_is_an_object", "8", _BODY,
        (
            "api_service.schemas",
            '    if type(body) is not dict:\n        raise InvalidRequestError([FieldFault(""',
            '    body = {**body} if type(body) is dict else {}\n    if 0:\n        raise ValueError([FieldFault(""',
        ),
    ),
    _mutant(
        "unknown_fields_passed_over", "9", _BODY,
        ("api_service.schemas", "from marshmallow import RAISE, ", "from marshmallow import EXCLUDE as RAISE, "),
    ),
    _mutant(
        "any_size", "10", _BODY,
        (_BODIES, "        if declared > max_bytes:\n", "        if False:\n"),
    ),
    _mutant(
        "chunks_without_end", "10", _HTTP,
        (_BODIES, "max_bytes + 1, EXCHANGE.get())\n    if len(body) > max_bytes:", "2**31, EXCHANGE.get())\n    if 0:"),
    ),
    _mutant(
        "any_coding", "11", _BODY,
        (_BODIES, '    if request.headers.get("Content-Encoding", "identity").lower() != "identity":\n', "    if 0:\n"),
    ),
    _mutant("any_media_type", "12", _BODY, (_BODIES, "    if media_type not in accepted:\n", "    if False:\n")),
    _mutant(
        "counted_after_reading", "13", _BODY,
        (_JSON, "    if len(body) > _UNCOUNTED_BYTES and ", "    if False and "),
    ),
    # HTTP
    _mutant(
        "framing_by_the_first_length", "14", _HTTP,
        (
            "api_service.worker",
            "from gunicorn.workers.gthread import ThreadWorker\n",
            "from gunicorn.http import body as _body, message as _message\n"
            "from gunicorn.workers.gthread import ThreadWorker\n\n"
            "def _lax(self):\n"
            "    lengths = [int(value) for name, value in self.headers if name == 'CONTENT-LENGTH']\n"
            "    self.body = _body.Body(_body.LengthReader(self.unreader, (lengths or [0])[0]))\n\n"
            "_message.Request.set_body_reader = _lax\n",
        ),
    ),
    _mutant(
        "any_transfer_coding", "15", _HTTP,
        ("api_service.refusals", "    if isinstance(request.body.reader, ChunkedReader):\n", "    if False:\n"),
    ),
    _mutant(
        "heads_of_any_size", "16", _HTTP,
        ("api_service.server", '"limit_request_line": 8190', '"limit_request_line": 0'),
        ("api_service.server", '"limit_request_fields": 64', '"limit_request_fields": 32768'),
        ("api_service.server", '"limit_request_field_size": 8190', '"limit_request_field_size": 0'),
    ),
    _mutant(
        "every_peer_is_a_proxy", "18", _HTTP,
        ("api_service.clients", "        if not self._networks:\n", "        if False:\n"),
        ("api_service.clients", "            return Client(address)\n        said", "            pass\n        said"),
    ),
    _mutant(
        "ids_of_any_form", "19", f"{UNIT}{API}/test_hostile_paths.py",
        (
            "api_service.routes.notifications",
            '"GET", f"{NOTIFICATIONS_PATH}/<uuid:notification_id>"',
            '"GET", f"{NOTIFICATIONS_PATH}/<notification_id>"',
        ),
    ),
    # Who calls
    _mutant(
        "any_length_of_hmac", "20", f"{UNIT}{API}/test_tokens.py",
        ("api_service.tokens", 'algorithms=["HS256"], ', 'algorithms=["HS256", "HS384", "HS512"], '),
    ),
    _mutant(
        "claims_not_compared", "21", f"{UNIT}{API}/test_tokens.py",
        (
            "api_service.tokens",
            "                options=_STRICTLY,\n",
            '                options={"verify_exp": False, "verify_nbf": False, "verify_aud": False},\n',
        ),
    ),
    _mutant(
        "any_header_of_a_token", "22", f"{UNIT}{API}/test_tokens.py",
        ("api_service.tokens", "if key is None or not header.keys() <= _HEADER:\n", "if key is None:\n"),
    ),
    _mutant(
        "any_tenant_claim", "23", f"{UNIT}{API}/test_tokens.py",
        ("api_service.tokens", " or type(tenant) is not str or not tenant:\n", ":\n"),
    ),
    _mutant(
        "keys_in_urls", "24", f"{UNIT}{API}/test_identity.py",
        (
            "api_service.identity",
            'environ.get("HTTP_X_API_KEY")\n',
            'environ.get("HTTP_X_API_KEY") or environ.get("QUERY_STRING", "").partition("=")[2] or None\n',
        ),
    ),
    _mutant(
        "believed_for_an_hour", "26", f"{INTEGRATION}{API}/test_who_calls.py",
        ("api_service.identity", "BELIEVED_S: Final = 4.0\n", "BELIEVED_S: Final = 3600.0\n"),
        ("api_service.identity", "AWAY_S: Final = 60.0\n", "AWAY_S: Final = 3600.0\n"),
    ),
    _mutant(
        "no_work_for_nobody", "27", f"{INTEGRATION}{API}/test_signing_in.py",
        (
            "api_service.passwords",
            "            try:\n                _HASHER.verify(kept or _NOBODYS, password)\n",
            "            if kept is None:\n                return Verdict(right=False)\n"
            "            try:\n                _HASHER.verify(kept, password)\n",
        ),
    ),
    _mutant(
        "any_scope", "33", f"{INTEGRATION}{API}/test_who_calls.py",
        ("api_service.callers", "    if scope not in caller.scopes:\n", "    if False:\n"),
    ),
    # Mail
    _mutant(
        "control_characters_in_headers", "34", _MAIL,
        (_MIME, "    if _CONTROL.search(value):\n        raise", "    if False:\n        raise"),
    ),
    _mutant(
        "encoded_words_left_as_they_are", "35", _MAIL,
        (_MIME, '_PLAIN_HEADER.fullmatch(value) and "=?" not in value and', "_PLAIN_HEADER.fullmatch(value) and"),
    ),
    _mutant("any_header_name", "36", _MAIL, (_MIME, "        if _EXTRA_NAME.fullmatch(name) and ", "        if ")),
    _mutant(
        "any_recipient", "37", _MAIL,
        ("delivery_consumer.providers.email", "    if not (at and _LOCAL.fullmatch(local)", "    if 0 and not (at"),
    ),
    _mutant(
        "dots_not_stuffed", "38", _MAIL,
        ("delivery_consumer.providers.smtp_session", '    return _DOT.sub(b"..", message) if', "    return message if"),
    ),
    _mutant(
        "no_look_alikes", "41", _MAIL,
        ("api_service.look_alikes", "    if _ACE not in recipient:\n", "    if True:\n"),
    ),
    _mutant(
        "anybodys_domain", "39", f"{INTEGRATION}{API}/test_sender_domains.py",
        (
            "api_service.known",
            "return sender_domains.allowed(conn, list(names), tenant_id=tenant_id)",
            "return set(names)",
        ),
    ),
    # Webhooks
    _mutant("no_guard", "42 43 44 45 46", _NAMESPACE, (_CONNECTING, _JUDGED, "")),
    _mutant(
        "one_public_address_is_enough", "45", _NAMESPACE,
        (_CONNECTING, "                if any(is_forbidden(", "                if all(is_forbidden("),
    ),
    _mutant(
        "looked_up_again_to_connect", "46", _NAMESPACE,
        (_CONNECTING, _JUDGED, f"{_JUDGED}                addresses = await self._resolve(tenant_id, host, port)\n"),
    ),
    _mutant(
        "redirects_followed", "47", _NAMESPACE,
        (_CONNECTING, _JUDGED, ""),
        (
            "delivery_consumer.providers.webhook",
            "        return _judge(answer, self._now())\n",
            '        where = dict(answer.headers).get(b"location")\n'
            "        if where and 300 <= answer.status < 400:\n"
            "            answer = await self._transport.post(_read_url(where.decode()).target, headers, body)\n"
            "        return _judge(answer, self._now())\n",
        ),
    ),
    _mutant(
        "proxies_of_the_environment", "49", f"{INTEGRATION}{DELIVERY}/test_hostile_webhooks.py",
        (
            _CONNECTING,
            "import asyncio\nimport ssl\n",
            "import asyncio\nimport os\nimport ssl\nfrom urllib.parse import urlsplit\n",
        ),
        (
            _CONNECTING,
            "        loop = asyncio.get_running_loop()\n        try:\n            async with asyncio.timeout_at",
            '        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:\n'
            "            proxy = urlsplit(os.environ[name])\n"
            "            host, port = proxy.hostname or host, proxy.port or port\n"
            "        loop = asyncio.get_running_loop()\n        try:\n            async with asyncio.timeout_at",
        ),
    ),
    _mutant(
        "urls_not_read", "48", f"{UNIT}{API}/test_hostile_webhooks.py",
        ("api_service.addresses", "    _check_parts(url)\n    return url", "    return url"),
    ),
    _mutant(
        "any_port", "48", f"{UNIT}{API}/test_hostile_webhooks.py",
        ("shared.webhook_addresses", "    return port in PORTS_WITHOUT_HTTP or ", "    return "),
    ),
    _mutant(
        "headers_of_ours_are_anybodys", "50", f"{UNIT}{API}/test_hostile_webhooks.py",
        ("shared.webhooks", "    return name in _OURS or name.startswith(_OUR_PREFIXES)", "    return False"),
    ),
    _mutant(
        "time_not_signed", "51", f"{INTEGRATION}{DELIVERY}/test_hostile_webhooks.py",
        (
            "delivery_consumer.providers.signing",
            '    signed = b"%b.%d.%b" % (webhook_id.encode(), timestamp, body)\n',
            '    signed = b"%b.%d.%b" % (webhook_id.encode(), 0, body)\n',
        ),
    ),
    # Tenants
    _mutant(
        "found_for_anybody", "28", f"{INTEGRATION}{API}/test_isolation.py",
        (
            "shared.db.notification_lists",
            'FROM notifications WHERE id = %(id)s AND tenant_id = %(tenant_id)s"',
            'FROM notifications WHERE id = %(id)s"',
        ),
    ),
    _mutant(
        "one_key_for_all_tenants", "30", f"{INTEGRATION}{API}/test_isolation.py",
        ("shared.db.accepting", "            SELECT tenant_id, %(key)s, ", "            SELECT 'a', %(key)s, "),
    ),
    _mutant(
        "anybodys_endpoint", "31", f"{INTEGRATION}{API}/test_isolation.py",
        (
            "api_service.known",
            "    return {ids[id_] for id_ in endpoints.known(conn, ids, tenant_id=tenant_id)}",
            "    return set(ids.values())",
        ),
    ),
    _mutant(
        "tenant_of_the_session", "32", f"{INTEGRATION}{SHARED}/test_tenancy.py",
        ("shared.db.tenancy", "set_config('notify.tenant', %s, true)", "set_config('notify.tenant', %s, false)"),
    ),
    _mutant(
        "parameters_passed_over", "29", f"{INTEGRATION}{API}/test_isolation.py",
        ("api_service.queries", "from marshmallow import RAISE, ", "from marshmallow import EXCLUDE as RAISE, "),
    ),
    # Secrets, and who floods
    _mutant(
        "example_secrets_are_secrets", "25", f"{UNIT}{SHARED}/test_weak_secrets.py",
        ("shared.weak_secrets", "    return value.lower() in _KNOWN_PASSWORDS or ", "    return False and "),
    ),
    _mutant(
        "paths_for_routes", "56 59", "tests/e2e/test_canaries.py",
        ("api_service.app", 'request.url_rule.rule if request.url_rule else "unmatched",\n', "request.path,\n"),
    ),
    _mutant(
        "codes_as_receivers_choose_them", "59", "tests/e2e/test_canaries.py",
        (
            "delivery_consumer.metrics",
            "    if match is None or match[2] + match[3] in _KNOWN_CODES:\n",
            "    if True:\n",
        ),
    ),
    _mutant(
        "lines_of_text", "58", "tests/e2e/test_canaries.py",
        (
            "shared.telemetry",
            "        return orjson.dumps(line, default=str).decode()\n",
            '        return " ".join(f"{name}={value}" for name, value in line.items())\n',
        ),
    ),
    _mutant(
        "bugs_are_told", "60", f"{INTEGRATION}{API}/test_internal_errors.py",
        (
            "api_service.app",
            "    return problems.respond(problems.internal_error(), ids().request_id)\n",
            '    return problems.respond(Problem("internal_error", repr(error)), ids().request_id)\n',
        ),
    ),
    _mutant(
        "sealed_for_no_row", "57", f"{UNIT}{SHARED}/test_secrets.py",
        ("shared.secrets", "    parts = (head, *(name.encode() for name in names))\n", "    parts = ()\n"),
    ),
    _mutant(
        "nobody_shares", "67", f"{UNIT}{DELIVERY}/test_tenants.py",
        (
            "delivery_consumer.tenants",
            "        return not self.several or held < GREED * free\n",
            "        return True\n",
        ),
    ),
    _mutant(
        "nobody_counts", "65", f"{UNIT}{API}/test_floods.py",
        ("api_service.limiting.limits", "        if not self._enabled or caller.kind", "        if 1 or caller.kind"),
    ),
    _mutant(
        "actions_count_as_sending", "66", f"{UNIT}{API}",
        ("api_service.limiting.limits", "        if is_action:\n", "        if False:\n"),
    ),
    _mutant(
        "any_number_of_logins", "27", f"{UNIT}{API}/limiting",
        (
            "api_service.limiting.limits",
            "        self._counted(self._one(Subject.LOGIN_ADDRESS, neighbourhood(address)))\n"
            "        self._counted(self._one(Subject.LOGIN_ACCOUNT, name))\n",
            "        return\n",
        ),
    ),
)  # fmt: skip
BY_NAME = {mutant.name: mutant for mutant in MUTANTS}
SHOWN_BY_A_TEST = {
    17: "test_row_17_without_the_gateway_they_do",
    42: "test_the_counters_see_what_gets_through",
    43: "test_the_counters_see_what_gets_through",
    44: "test_the_counters_see_what_gets_through",
}
"""Rows with a test of their own that takes the mechanism away, in each run of the tests."""
