"""Rules about what is called, and how."""

import ast
import re
from collections.abc import Callable, Iterator
from typing import Final

from tests.own_rules.source import Finding, Source, dotted, keyword

_CLIENTS: Final = re.compile(
    r"httpx\.(?:AsyncClient|Client|AsyncHTTPTransport|HTTPTransport|get|post|put|patch|delete|head|options|request|stream)"
    r"|requests\.(?:get|post|put|patch|delete|head|options|request|session|Session)|urllib3\.\w+|aiohttp\.\w+"
    r"|urllib\.request\.(?:urlopen|build_opener|urlretrieve|OpenerDirector)|http\.client\.HTTPS?Connection"
    r"|socket\.create_connection|asyncio\.open_connection|smtplib\.\w+|aiosmtplib\.SMTP"
)
_CONNECTS: Final = ("create_connection", "open_connection")
_FACTORIES: Final = {
    "delivery_consumer/providers/connecting.py": _CONNECTS,  # judges each address before it connects
    "delivery_consumer/providers/smtp_pool.py": ("SMTP",),  # to the one host that the operator named
}
_EVALUATES: Final = re.compile(
    r"eval|exec|compile|__import__|(?:pickle|cPickle|marshal|dill|shelve|jsonpickle)\.\w+|os\.(?:system|popen)"
    r"|yaml\.(?:load|load_all|unsafe_load|unsafe_load_all|full_load|full_load_all)"
)
_CLAIMS: Final = {"exp", "iss", "aud"}
_TENACITY: Final = ("tenacity.retry", "tenacity.Retrying", "tenacity.AsyncRetrying")
_LOGS: Final = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def client_outside_the_factory(source: Source) -> Iterator[Finding]:
    """A connection goes out through what judges its address, with our deadlines and no proxy, or not at all."""
    allowed = _FACTORIES.get(source.path, ())
    for call in source.calls:
        name = dotted(call.func, source.aliases)
        last = name.rpartition(".")[2]
        if (_CLIENTS.fullmatch(name) or (last in _CONNECTS and "." in name)) and last not in allowed:
            yield source.finding("client_outside_the_factory", call)


def token_not_fully_verified(source: Source) -> Iterator[Finding]:
    """PyJWT asks for no claim by itself: algorithms are named, never `none`; exp, iss and aud required and compared."""
    for call in source.calls:
        name = dotted(call.func, source.aliases)
        if name.startswith("jwt.") and name.endswith((".decode", ".decode_complete")) and not _verifies(call, source):
            yield source.finding("token_not_fully_verified", call)


def _verifies(call: ast.Call, source: Source) -> bool:
    algorithms, options = (_value(keyword(call, name), source) for name in ("algorithms", "options"))
    if not isinstance(algorithms, (list, tuple, set, frozenset)) or not algorithms or not isinstance(options, dict):
        return False
    lax = [name for name, value in options.items() if name.startswith("verify_") and not value]
    named = all(keyword(call, name) is not None for name in ("issuer", "audience"))
    known = all(isinstance(one, str) and one.lower() != "none" for one in algorithms)
    return named and known and not lax and set(options.get("require", ())) >= _CLAIMS


def _value(node: ast.expr | None, source: Source) -> object:
    """Return a literal, or what a constant of the module is; None for anything that is neither."""
    if isinstance(node, ast.Name):
        node = source.constants.get(node.id)
    try:
        return None if node is None else ast.literal_eval(node)
    except ValueError:
        return None


def mail_without_recipients(source: Source) -> Iterator[Finding]:
    """Without `recipients` aiosmtplib takes them from the message's headers: To, Cc, Bcc, Resent-To."""
    for call in source.calls:
        name = dotted(call.func, source.aliases)
        sends = name == "aiosmtplib.send" or name.endswith((".send_message", ".sendmail"))
        if sends and keyword(call, "recipients") is None:
            yield source.finding("mail_without_recipients", call)


def retry_without_an_end(source: Source) -> Iterator[Finding]:
    """Tenacity's default is to repeat for ever and at once."""
    bare = {id(one) for node in source.nodes for one in getattr(node, "decorator_list", [])}
    for node in source.nodes:
        if isinstance(node, ast.Call) and dotted(node.func, source.aliases) in _TENACITY:
            if keyword(node, "stop") is None or keyword(node, "wait") is None:
                yield source.finding("retry_without_an_end", node)
        elif isinstance(node, ast.expr) and id(node) in bare and dotted(node, source.aliases) in _TENACITY:
            yield source.finding("retry_without_an_end", node)


def code_from_data(source: Source) -> Iterator[Finding]:
    """Neither Python nor a shell runs what came from outside, and nothing is unpickled."""
    for call in source.calls:
        name = dotted(call.func, source.aliases)
        shell = keyword(call, "shell")
        if _EVALUATES.fullmatch(name) or (shell is not None and _value(shell, source) is not False):
            yield source.finding("code_from_data", call)


def tls_not_verified(source: Source) -> Iterator[Finding]:
    """No certificate goes unread."""
    for node in source.nodes:
        if isinstance(node, ast.Call):
            name, verify = dotted(node.func, source.aliases), keyword(node, "verify")
            if name.endswith("._create_unverified_context") or (verify is not None and _value(verify, source) is False):
                yield source.finding("tls_not_verified", node)
        elif isinstance(node, ast.Attribute) and node.attr == "CERT_NONE":
            yield source.finding("tls_not_verified", node)
        elif isinstance(node, ast.Assign) and _value(node.value, source) is False:
            names = [one.attr for one in node.targets if isinstance(one, ast.Attribute)]
            yield from (source.finding("tls_not_verified", node) for name in names if name == "check_hostname")


def log_line_with_values_in_it(source: Source) -> Iterator[Finding]:
    """A line's event is a constant; what varies goes into `extra`, where JSON keeps it apart."""
    for call in source.calls:
        if not isinstance(call.func, ast.Attribute) or call.func.attr not in _LOGS:
            continue
        if dotted(call.func.value, {}).rpartition(".")[2] not in ("log", "_log", "logger", "logging"):
            continue
        place = 1 if call.func.attr == "log" else 0
        events = call.args[place : place + 1]
        if len(call.args) != place + 1 or not all(_is_an_event(one, source) for one in events):
            yield source.finding("log_line_with_values_in_it", call)


def _is_an_event(node: ast.expr, source: Source) -> bool:
    """Say whether this is a constant, a choice of constants, or the parameter of a function given constants alone."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and re.fullmatch(r"[a-z][a-z0-9_]*", node.value) is not None
    if isinstance(node, ast.IfExp):
        return _is_an_event(node.body, source) and _is_an_event(node.orelse, source)
    return isinstance(node, ast.Name) and _is_always_an_event(node.id, source)


def _is_always_an_event(name: str, source: Source) -> bool:
    for function in source.nodes:
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names = [one.arg for one in function.args.args if one.arg != "self"]
            if name in names:
                passed = [
                    call.args[names.index(name)]
                    for call in source.calls
                    if dotted(call.func, {}).rpartition(".")[2] == function.name and len(call.args) > names.index(name)
                ]
                return bool(passed) and all(isinstance(one, ast.Constant) for one in passed)
    return False


RULES: Final[tuple[Callable[[Source], Iterator[Finding]], ...]] = (
    client_outside_the_factory,
    token_not_fully_verified,
    mail_without_recipients,
    retry_without_an_end,
    code_from_data,
    tls_not_verified,
    log_line_with_values_in_it,
)
