"""Crash points and mutants find what they change, and an image knows nothing of either."""

import ast
import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos import crash_points, traps
from tests.chaos.crash_points import POINTS, CrashPoint
from tests.chaos.launch import SERVICES, arguments
from tests.chaos.mutants import MUTANTS, Mutant
from tests.chaos.rewriting import (
    PRODUCT,
    Edit,
    NotFoundInProductError,
    Place,
    Rewriter,
    check_constant,
    check_place,
    edited,
    source_of,
)
from tests.chaos.scenarios import BY_SCENARIO
from tests.chaos.traps import Armed, Trap
from tests.dockerfiles import EXTRAS, REPOSITORY, dockerfile_of


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_a_crash_point_is_in_the_product(point: CrashPoint) -> None:
    """Or its test would wait for a call that nobody makes any more."""
    assert point.service in SERVICES
    assert point.threatens.startswith("I")
    for place in point.places:
        check_place(place)


def test_each_service_has_its_crash_points() -> None:
    """At least two, four, eight and four, each name once."""
    counts = {service: sum(point.service == service for point in POINTS) for service in SERVICES}

    assert len({point.name for point in POINTS}) == len(POINTS) >= 18
    assert counts["api_service"] >= 2
    assert counts["outbox_relay"] >= 4
    assert counts["delivery_consumer"] >= 8
    assert counts["dlq_consumer"] >= 4


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_a_change_of_the_product_and_still_python(mutant: Mutant) -> None:
    """Each text it replaces is there exactly once."""
    for module in {edit.module for edit in mutant.edits}:
        path = source_of(module)
        text = edited(path.read_text(encoding="utf-8"), [edit for edit in mutant.edits if edit.module == module])
        compile(text, str(path), "exec", dont_inherit=True)
    assert mutant.caught_by
    assert set(mutant.scenarios) <= set(BY_SCENARIO)


def test_what_is_not_in_the_product_is_refused() -> None:
    """A module, a class, a function, a constant, a text: each is missed loudly."""
    rewriter = Rewriter()

    for place in (Place("shared.no_such", "f"), Place("shared.model", "NoClass.f"), Place("shared.model", "no_such")):
        with pytest.raises(NotFoundInProductError):
            rewriter.wrap(place, lambda function: function)
    with pytest.raises(NotFoundInProductError):
        check_constant(Place("outbox_relay.upkeep", "NO_SUCH"))
    with pytest.raises(NotFoundInProductError, match="0 times"):
        rewriter.edit([Edit("shared.model", "this is not in there", "x")])
    with pytest.raises(NotFoundInProductError, match="not of the product"):
        source_of("infra.local.stack")


def test_no_shipped_package_imports_tests_or_names_a_crash_point() -> None:
    """Crash points cost nothing when they are off, because they are not there."""
    for path in [path for package in PRODUCT for path in (REPOSITORY / package).rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not {name for name in imported if name.partition(".")[0] == "tests"}, path
        assert "crash_point" not in text.lower(), path


@pytest.mark.parametrize("service", EXTRAS)
def test_no_image_holds_tests(service: str) -> None:
    """And so no setting of a deployment can lead to them."""
    copied = {source.rstrip("/") for source, _ in dockerfile_of(service).copied}
    context = (REPOSITORY / ".dockerignore").read_text().splitlines()

    assert copied == {service, "shared"}
    assert "*" in context
    assert not [line for line in context if line.startswith("!") and "tests" in line]


def test_a_trap_counts_calls_while_it_is_armed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It kills at the call it was armed for, once, and not before it was armed."""
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, signum: killed.append((pid, signum)))
    point = crash_points.BY_NAME["relay_after_promote"]
    promoted = Trap(point, tmp_path).wrap(lambda rows: rows)

    promoted(5)
    traps.arm(Armed(point, 2), tmp_path)
    promoted(0)  # nothing was promoted: no call that counts
    promoted(5)
    before = list(killed)
    promoted(5)
    promoted(5)

    assert before == []
    assert killed == [(os.getpid(), signal.SIGKILL)]
    assert traps.killed(point, tmp_path) == [os.getpid()]
    assert traps.calls(point, tmp_path) == 2


def test_a_trap_for_one_process_lets_the_others_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their calls do not count; who is to die along dies first, and one that is gone already is no error."""
    killed: list[int] = []

    def kill(pid: int, _signum: int) -> None:
        killed.append(pid)
        if pid == 2:
            raise ProcessLookupError

    monkeypatch.setattr(os, "kill", kill)
    point = crash_points.BY_NAME["relay_after_promote"]
    one = Trap(point, tmp_path, "relay-1").wrap(lambda rows: rows)
    other = Trap(point, tmp_path, "relay-2").wrap(lambda rows: rows)

    traps.arm(Armed(point, 1, only="relay-2", along=(1, 2, os.getpid())), tmp_path)
    one(5)
    before, counted = list(killed), traps.calls(point, tmp_path)
    other(5)

    assert (before, counted) == ([], 0)
    assert killed == traps.killed(point, tmp_path) == [1, 2, os.getpid()]


def test_a_trap_on_a_coroutine_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a call means after what it awaited."""
    events: list[str] = []
    monkeypatch.setattr(os, "kill", lambda *_: events.append("killed"))
    point = crash_points.BY_NAME["delivery_after_yes"]

    async def send(_self: object) -> str:
        await asyncio.sleep(0)
        events.append("sent")
        return "receipt"

    traps.arm(Armed(point, 1), tmp_path)
    receipt = asyncio.run(Trap(point, tmp_path).wrap(send)(None))

    assert receipt == "receipt"
    assert events == ["sent", "killed"]


@pytest.mark.parametrize("text", ["no_such_point:1", "relay_after_read", "relay_after_read:0", "relay_after_read:x"])
def test_a_point_that_does_not_exist_is_refused(text: str) -> None:
    """By its name, with what there is."""
    with pytest.raises(ValueError, match=r"crash point|POINT:HIT"):
        Armed.parse(text)


SHOW = """
import sys
from tests.chaos.mutants import BY_NAME
from tests.chaos.launch import prepared
from pathlib import Path
constants = ("outbox_relay.upkeep.LEASE_GRACE_S=0.5",)
rewriter = prepared("outbox_relay", Path(sys.argv[1]), BY_NAME["range_delete"].edits, constants)
rewriter.install()
import inspect
from outbox_relay import relay, upkeep
from shared.db import outbox
code = inspect.unwrap(outbox.delete).__code__
print(upkeep.LEASE_GRACE_S, any("SELECT max(s)" in str(one) for one in code.co_consts), relay.outbox is outbox)
"""


def test_changes_are_made_at_import_and_seen_by_whoever_imports_later(tmp_path: Path) -> None:
    """In a process of its own, as a service is started."""
    done = subprocess.run(
        [sys.executable, "-c", SHOW, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )

    assert (done.stdout.split(), done.stderr) == (["0.5", "True", "True"], "")


def test_arguments_start_a_service_through_the_launcher(tmp_path: Path) -> None:
    """As they are given to Python."""
    line = arguments(
        "dlq_consumer", traps=tmp_path, name="dlq-1", mutant="latest", constants={"a.B": 1.5}, clock_shift_s=-60
    )

    assert line[:3] == ["-m", "tests.chaos.launch", "dlq_consumer"]
    assert line[3:7] == ["--traps", str(tmp_path), "--as", "dlq-1"]
    assert line[7:] == ["--mutant", "latest", "--set", "a.B=1.5", "--clock-shift-s", "-60"]
