"""The repository as a whole: pages tell the truth, locks agree, and nothing of one machine is in it."""

import ast
import pkgutil
import re
import subprocess
from pathlib import Path

import pytest

from tests.chaos.crash_points import BY_NAME as CRASH_POINTS
from tests.chaos.mutants import BY_NAME as MUTANTS
from tests.dockerfiles import EXTRAS, REPOSITORY, locked

PACKAGES = [*EXTRAS, "shared", "infra"]
MAX_MODULE_LINES, MAX_TEST_LINES = 400, 550
NOT_OURS = {".git", ".venv", ".local", ".hypothesis", "dist", "htmlcov"}


def committed() -> list[Path]:
    """Every text file of the project, as git lists them; in an unpacked archive, every file there is."""
    if (REPOSITORY / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split("\0")
        paths = [REPOSITORY / name for name in names if name]
    else:
        paths = [path for path in REPOSITORY.rglob("*") if not NOT_OURS & set(path.relative_to(REPOSITORY).parts)]
    return [path for path in paths if path.is_file() and not path.name.endswith(".pyc")]


FILES = committed()
PAGES = [path for path in FILES if path.suffix == ".md"]
MODULES = [path for path in FILES if path.suffix == ".py"]


def name_of(path: Path) -> str:
    """A path as it is shown."""
    return str(path.relative_to(REPOSITORY))


def test_there_is_something_to_check() -> None:
    """Or every check below would hold of nothing."""
    assert len(MODULES) > 80
    assert len(PAGES) > 15


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        ("a path of one machine", r"(?<![\w.~])/(?:home|Users|work|mnt|ro" + r"ot)/\w"),
        (
            "the host of a package index",
            "|".join((r"python" + r"hosted\.org", r"pypi\." + "org", r"npm" + r"js\.(?:org|com)")),
        ),
        ("the host of an image registry", "|".join((r"docker" + r"\.io/", r"ghcr" + r"\.io", r"quay" + r"\.io"))),
        ("the host of a jar repository", "|".join((r"repo1?\.maven", r"maven" + r"\.org"))),
        ("an index option", r"--(?:extra-)?index" + r"-url[ =]"),
        ("unfinished work", "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X"))),
        ("blanks at the end of a line", r"[ \t]+$"),
        ("a carriage return", "\r"),
    ],
)
def test_no_file_has(what: str, pattern: str) -> None:
    """It would be true on one machine, or for one day."""
    found = []
    for path in FILES:
        if path.suffix in {".txt", ".json"} and path.parent.name in {"locks", "golden"} and what == "unfinished work":
            continue  # sums in hexadecimal and base64 spell anything
        text = path.read_bytes().decode("utf-8")
        found += [f"{name_of(path)}: {match[0]!r}" for match in re.finditer(pattern, text, re.MULTILINE)]

    assert found == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_says_what_it_is_for_and_is_not_too_long(path: Path) -> None:
    """One thought per module."""
    text = path.read_text(encoding="utf-8")

    assert ast.get_docstring(ast.parse(text)) or not text
    limit = MAX_TEST_LINES if path.is_relative_to(REPOSITORY / "tests") else MAX_MODULE_LINES
    assert text.count("\n") <= limit


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """To a file of this repository and, with an anchor, to a heading in it."""
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        file, _, anchor = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"(?m)^#+ (.+)$", linked.read_text())
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_and_names_on_a_page_exist(page: Path) -> None:
    """`outbox_relay/reader.py` is a file, `shared.db.outbox.read` something that can be imported."""
    quoted = set(re.findall(r"`([^`\n]+)`", page.read_text()))
    top = "|".join([*PACKAGES, "loadtest", "tests", "docs", "locks"])

    files = {text for text in quoted if re.fullmatch(rf"(?:{top})/[\w./-]*", text)}
    assert {text for text in files if not (REPOSITORY / text).exists()} == set()
    for text in quoted:
        if re.fullmatch(rf"(?:{'|'.join(PACKAGES)}|loadtest)(?:\.\w+)+", text) and not (REPOSITORY / text).exists():
            assert resolves(text), text


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_command_on_a_page_says_who_calls_by_itself(page: Path) -> None:
    """Pasted alone, or after any other: no page redefines curl, and none leaves the key to a function."""
    text = page.read_text()
    commands = re.findall(r"(?m)^ *(?:\w+=\$\()?(curl (?:.*\\\n)*.*)$", text)

    assert "curl()" not in text
    assert [one for one in commands if re.search(r":8080/(?:api|auth)/", one) and "$KEY" not in one] == []


def resolves(dotted: str) -> bool:
    """Say whether a dotted name is a module, or something in one."""
    try:
        pkgutil.resolve_name(dotted)
    except (ImportError, AttributeError):
        return False
    return True


def names_of_tests() -> set[str]:
    """The names of all tests."""
    paths = [path for path in MODULES if path.name.startswith("test_")]
    return {name for path in paths for name in re.findall(r"(?m)^(?:async )?def (test_\w+)", path.read_text())}


def test_every_guarantee_names_tests_that_exist() -> None:
    """A promise without one is not on the page."""
    rows = re.findall(r"(?m)^\| (\*\*.+)\|$", (REPOSITORY / "docs/guarantees.md").read_text())
    named = [set(re.findall(r"`(test_\w+)`", row)) for row in rows]

    assert len(rows) > 25
    assert [row for row, tests in zip(rows, named, strict=True) if not tests] == []
    assert set().union(*named) - names_of_tests() == set()


def test_each_of_the_twenty_invariants_is_a_guarantee_and_each_mutant_threatens_one() -> None:
    """I1 to I20, in order; what takes a mechanism away is named beside what it breaks."""
    rows = re.findall(r"(?m)^\| \*\*(I\d+)\*\* \|.*\| ([^|]+) \|$", (REPOSITORY / "docs/guarantees.md").read_text())
    breaks = {name: set(re.split(r", *", mutant.invariants)) for name, mutant in MUTANTS.items()}
    beside = [(invariant, name) for invariant, shown in rows for name in re.findall(r"`(\w+)`", shown)]
    named = {name for _, name in beside}

    assert list(dict.fromkeys(invariant for invariant, _ in rows)) == [f"I{number}" for number in range(1, 21)]
    assert named >= breaks.keys()
    assert named <= breaks.keys() | CRASH_POINTS.keys()
    assert [pair for pair in beside if pair[1] in breaks and pair[0] not in breaks[pair[1]]] == []


HOSTILE_ROWS = [*range(1, 40), *range(41, 52), *range(56, 61), *range(65, 68)]
NO_TEST = "**none yet**"


def test_every_row_of_hostile_input_has_one_line_and_its_own_tests() -> None:
    """In the order of their numbers, on the page that an auditor reads; a row without a test says so."""
    _, _, rest = (REPOSITORY / "docs/security.md").read_text().partition("\n## Row by row\n")
    lines = re.findall(r"(?m)^\| (\d+) \|[^|]+\|[^|]+\|([^|]+)\|", rest.partition("\n## ")[0])

    assert [int(number) for number, _ in lines] == HOSTILE_ROWS
    for number, tests in lines:
        own = re.findall(rf"`test_row_0?{number}_\w+`", tests)
        assert own or NO_TEST in tests, number


def test_every_test_on_the_page_about_security_exists() -> None:
    """Threats, rows and the lists of others name nothing that is not run."""
    named = set(re.findall(r"`(test_\w+)`", (REPOSITORY / "docs/security.md").read_text()))

    assert len(named) > 50
    assert named - names_of_tests() == set()


def test_decisions_have_their_four_parts_and_a_number_of_their_own() -> None:
    """Status, Context, Decision, Consequences, on one page each."""
    pages = sorted((REPOSITORY / "docs/decisions").glob("*.md"))

    assert [page.name[:4] for page in pages] == [f"{number:04}" for number in range(1, len(pages) + 1)]
    for page in pages:
        text = page.read_text()
        assert text.startswith(f"# {page.name[:4]} ")
        assert re.findall(r"(?m)^## (.+)$", text) == ["Context", "Decision", "Consequences"]
        assert re.search(r"(?m)^\*\*Status:\*\* (accepted|superseded by)", text)
        assert text.count("\n") < 80


def test_code_names_decisions_that_exist() -> None:
    """A source that is cited can be read."""
    cited = {name for path in MODULES for name in re.findall(r"docs/decisions/[\w-]+\.md", path.read_text())}

    assert cited
    assert {name for name in cited if not (REPOSITORY / name).exists()} == set()


@pytest.mark.parametrize("extra", EXTRAS.values())
def test_an_image_installs_what_the_tests_ran_with(extra: str) -> None:
    """One resolution: each lock is within the one of the development environment, every package with its sums."""
    everything = locked("dev")
    text = (REPOSITORY / "locks" / f"{extra}.txt").read_text()
    entries = re.split(r"(?m)^(?=[\w.-]+==)", text)[1:]

    assert {name: everything.get(name) for name in locked(extra)} == locked(extra)
    assert len(entries) == len(locked(extra))
    assert all("--hash=sha256:" in entry for entry in entries)


def test_every_package_is_in_the_distribution_and_its_scripts_start_something() -> None:
    """What pyproject.toml names can be imported."""
    project = (REPOSITORY / "pyproject.toml").read_text()
    scripts = dict(re.findall(r'(?m)^(notify-\w+) = "([\w.]+):main"$', project))

    assert sorted(scripts.values()) == sorted(
        [*(f"{service}.__main__" for service in EXTRAS), "outbox_relay.audit", "api_service.admin.__main__"]
    )
    assert all((REPOSITORY / module.replace(".", "/")).with_suffix(".py").is_file() for module in scripts.values())
    assert re.search(r"(?m)^packages = (.+)$", project)[1].count('"') == 2 * len(PACKAGES)  # type: ignore[index]
