"""Starting again what has ended, by a clock that the test turns."""

from dataclasses import dataclass, field

import pytest

from infra.local.revival import MAX_DELAY_S, STEADY_S, Revival


@dataclass
class Scene:
    """A process that lives or not, the time, and what was said."""

    name: str = "kafka"
    is_running: bool = True
    returncode: int | None = None
    program_missing: bool = False
    now: float = 1_000.0
    said: list[str] = field(default_factory=list)

    def start(self) -> None:
        if self.program_missing:
            raise FileNotFoundError(2, "No such file or directory")
        self.is_running = True

    def end(self) -> None:
        self.is_running, self.returncode = False, -9


def revival_of(scene: Scene) -> Revival:
    return Revival([scene], scene.said.append, clock=lambda: scene.now)


def test_what_has_ended_is_started_again_at_once() -> None:
    """And said, once."""
    scene = Scene()
    revival = revival_of(scene)

    idle = revival.run_once()
    scene.end()
    started = revival.run_once()

    assert (idle, started, scene.is_running) == (0, 1, True)
    assert scene.said == ["kafka ended with code -9; it is started again now"]


def test_what_cannot_live_is_started_ever_more_seldom() -> None:
    """Two starts a minute at the end."""
    scene = Scene()
    revival = revival_of(scene)
    waited: list[float] = []

    for _ in range(8):
        scene.end()
        began = scene.now
        while not revival.run_once():
            scene.now += 0.5
        waited.append(scene.now - began)

    assert waited == [0, 1, 2, 4, 8, 16, MAX_DELAY_S, MAX_DELAY_S]
    assert len(scene.said) == 8


def test_after_a_steady_run_the_next_end_is_a_first_one() -> None:
    """A process that dies once a day comes back at once each time."""
    scene = Scene()
    revival = revival_of(scene)
    for _ in range(3):
        scene.end()
        while not revival.run_once():
            scene.now += 0.5

    scene.now += STEADY_S
    revival.run_once()
    scene.end()

    assert revival.run_once() == 1


def test_a_start_that_fails_is_tried_again_later() -> None:
    """An installation under way takes the program away for a moment."""
    scene = Scene(program_missing=True)
    revival = revival_of(scene)
    scene.end()

    revival.run_once()
    scene.program_missing = False
    scene.now += 1.0
    revival.run_once()
    scene.now += 1.0
    revival.run_once()

    assert scene.is_running
    assert scene.said[1] == "kafka could not be started: [Errno 2] No such file or directory"


@pytest.mark.parametrize("names", [[], ["a", "b", "c"]])
def test_each_process_is_looked_after_for_itself(names: list[str]) -> None:
    """One that is well does not hide one that is not."""
    scenes = [Scene(name) for name in names]
    revival = Revival(scenes, lambda _: None)
    for scene in scenes[1:]:
        scene.end()

    assert revival.run_once() == len(scenes[1:])
