"""Our own rules hold for product code, and each catches what was planted for it."""

import ast
from collections.abc import Callable, Iterator

import pytest

from tests.dockerfiles import EXTRAS, REPOSITORY
from tests.own_rules.calls import RULES as CALL_RULES
from tests.own_rules.source import Finding, Source, modules_below
from tests.own_rules.sql import sql_put_together_from_values

Rule = Callable[[Source], Iterator[Finding]]
RULES: tuple[Rule, ...] = (*CALL_RULES, sql_put_together_from_values)
PRODUCT = modules_below(REPOSITORY, [*EXTRAS, "shared"])

PLANTED = {
    "client_outside_the_factory": [
        "import httpx\nhttpx.AsyncClient(timeout=5)",
        "from httpx import Client as C\nC()",
        "import httpx\nhttpx.post('https://example.org')",
        "import requests\nrequests.get(url)",
        "from urllib.request import urlopen\nurlopen(url)",
        "import urllib.request as r\nr.build_opener().open(url)",
        "from http import client\nclient.HTTPSConnection(host)",
        "import asyncio\nasyncio.open_connection(host, 80)",
        "async def f(loop): await loop.create_connection(P, host, 80)",
        "import aiosmtplib\naiosmtplib.SMTP(hostname=theirs)",
    ],
    "token_not_fully_verified": [
        "import jwt\njwt.decode(token, key)",
        "import jwt\njwt.decode(token, key, algorithms=['HS256'])",
        "import jwt\njwt.decode(token, key, algorithms=['HS256'], options={'require': ['exp']}, issuer=i, audience=a)",
        "import jwt\njwt.decode(token, key, algorithms=['HS256'], options={'require': ['exp', 'iss', 'aud']})",
        "import jwt\nO = {'require': ['exp', 'iss', 'aud']}\n"
        "jwt.decode(t, k, algorithms=['none'], options=O, issuer=i, audience=a)",
        "import jwt\nO = {'require': ['exp', 'iss', 'aud'], 'verify_exp': False}\n"
        "jwt.decode(t, k, algorithms=['HS256'], options=O, issuer=i, audience=a)",
        "from jwt import decode\ndecode(token, key, algorithms=header['alg'], options=O, issuer=i, audience=a)",
        "import jwt\njwt.decode(token, options={'verify_signature': False})",
    ],
    "mail_without_recipients": [
        "import aiosmtplib\nawait aiosmtplib.send(message, hostname='mail')",
        "from aiosmtplib import send\nawait send(message)",
        "async def f(smtp): await smtp.send_message(message)",
    ],
    "retry_without_an_end": [
        "from tenacity import retry\n@retry\ndef f(): ...",
        "from tenacity import retry\n@retry()\ndef f(): ...",
        "import tenacity\n@tenacity.retry(stop=tenacity.stop_after_attempt(3))\ndef f(): ...",
        "from tenacity import AsyncRetrying\nAsyncRetrying(wait=wait_fixed(1))",
    ],
    "code_from_data": [
        "eval(text)",
        "exec(text)",
        "import pickle\npickle.loads(data)",
        "from pickle import loads\nloads(data)",
        "import yaml\nyaml.load(text)",
        "import os\nos.system(command)",
        "import subprocess\nsubprocess.run(command, shell=True)",
        "import marshal\nmarshal.loads(data)",
    ],
    "tls_not_verified": [
        "import httpx\nhttpx.Client(verify=False)",
        "import ssl\nssl._create_unverified_context()",
        "context.check_hostname = False",
        "import ssl\ncontext.verify_mode = ssl.CERT_NONE",
    ],
    "log_line_with_values_in_it": [
        "log.info(f'sent to {recipient}')",
        "log.warning('sent to %s', recipient)",
        "self._log.error('failed: ' + str(error))",
        "log.info(message)",
        "def note(event): log.info(event)\nnote(request.path)",
        "log.log(20, text)",
        "logging.info('Free text for a person.')",
    ],
    "sql_put_together_from_values": [
        "def f(conn, name): conn.execute(f\"SELECT * FROM t WHERE name = '{name}'\")",
        "def f(conn, name): conn.execute('SELECT * FROM t WHERE name = ' + name)",
        "def f(conn, name): conn.execute('SELECT * FROM %s' % name)",
        "def f(conn, name): conn.execute('SELECT * FROM {}'.format(name))",
        "def f(conn, where):\n    query = f'SELECT a FROM t ORDER BY {where.sort}'\n    return conn.execute(query)",
        "def f(conn, sort):\n    query = 'SELECT a FROM t'\n    query += ' ORDER BY ' + sort\n    conn.execute(query)",
        "def f(conn, names): conn.execute('SELECT ' + ', '.join(names))",
        "def f(conn, table):\n    with conn.cursor() as c, c.copy(f'COPY {table} FROM STDIN') as copy: ...",
        "def f(cursor, query, rows): cursor.executemany(query, rows)",
        "from shared.db import prepared\ndef f(conn, text, values): prepared.execute(conn, text, values)",
        "def f(table): return f'DELETE FROM {table}'",
        "def g(conn, query: LiteralString): conn.execute(query)\ndef f(conn, text): g(conn, text)",
        "def sort_by(where) -> LiteralString: return where.sort",
        "class Rule(NamedTuple):\n    broken: LiteralString\ndef f(text): return Rule(text)",
        "def f(conn, sort):\n    def run(): conn.execute(query)\n    query = 'SELECT ' + sort\n    run()",
        "def f(where):\n    by: LiteralString = where.sort",
        "class C:\n    def __init__(self, query): self._q = query\n    def f(self, conn): conn.execute(self._q)",
    ],
}

FINE = {
    "client_outside_the_factory": ["import httpx\nhttpx.URL(text)", "requests.inc()", "def f(url): ..."],
    "token_not_fully_verified": [
        "import jwt\nREQUIRED = {'require': ['exp', 'iss', 'aud', 'sub']}\n"
        "jwt.decode(token, key, algorithms=['HS256'], options=REQUIRED, issuer=i, audience=a)",
        "data.decode()",
    ],
    "mail_without_recipients": ["await aiosmtplib.send(message, recipients=[one])", "socket.send(data)"],
    "retry_without_an_end": [
        "from tenacity import retry\n@retry(stop=s, wait=w)\ndef f(): ...",
        "def retry(dead_letter_id): ...\nretry(1)",
    ],
    "code_from_data": ["import re\nre.compile(text)", "import yaml\nyaml.safe_load(text)", "conn.execute('SELECT 1')"],
    "tls_not_verified": ["import ssl\nssl.create_default_context(cafile=path)"],
    "log_line_with_values_in_it": ["log.info('sent', extra={'to': recipient})", "self._log.warning('x' if a else 'y')"],
    "sql_put_together_from_values": [
        "COLUMNS = 'a, b'\ndef f(conn, id_): conn.execute(f'SELECT {COLUMNS} FROM t WHERE id = %s', (id_,))",
        "def f(conn, oldest):\n    query = 'SELECT a FROM t'\n    query += ' ORDER BY a' if oldest else ''\n"
        "    conn.execute(query)",
        "def f(conn):\n    for query in ('SELECT 1', 'SELECT 2'): conn.execute(query)",
        "def sort_by(where) -> LiteralString: return 'a' if where.oldest else 'b'\n"
        "def f(conn, where): conn.execute(f'SELECT a FROM t ORDER BY {sort_by(where)}')",
        "def f(conn, n):\n    q = 'SELECT 1'\n    for _ in range(n): q = q + ' UNION SELECT 1'\n    conn.execute(q)",
        "shutil.copy(a, b)\nvalues.copy()",
        "print(f'Say hello to {name}')",
    ],
}


def found_by(rule: str, text: str) -> list[str]:
    """What a rule finds in a text."""
    ast.parse(text)
    source = Source.of(text)
    return [finding.rule for one in RULES if one.__name__ == rule for finding in one(source)]


def test_there_is_a_planted_example_for_each_rule() -> None:
    """One that never finds anything proves nothing."""
    assert PLANTED.keys() == FINE.keys() == {rule.__name__ for rule in RULES}
    assert len(PRODUCT) > 80


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in PLANTED.items() for text in texts])
def test_a_planted_example_is_caught(rule: str, text: str) -> None:
    """Each way of writing it."""
    assert set(found_by(rule, text)) == {rule}


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in FINE.items() for text in texts])
def test_what_is_right_is_left_alone(rule: str, text: str) -> None:
    """Or people would learn to silence it."""
    assert found_by(rule, text) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_product_code_keeps_the_rule(rule: Rule) -> None:
    """The four services and what they share."""
    assert [f"{source.path}:{one.line} {one.text}" for source in PRODUCT for one in rule(source)] == []
