"""The page of a run: what is on it, that it asks nobody for anything, and that no word of a result is markup."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import orjson
import pytest

from loadtest.report import render
from loadtest.report.inlining import UPLOT, as_json
from loadtest.results import Event, Limit, RunResult, from_json, to_json
from tests.unit.loadtest.runs import HOSTILE, a_run, lines

VOID = {"meta", "link", "input", "wbr"}


class Page(HTMLParser):
    """A page taken apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []  # outside scripts and styles
        self.inside: dict[str, list[str]] = {"script": [], "style": []}  # what each of these elements holds
        self.policy = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if dict(attrs).get("http-equiv") == "Content-Security-Policy":
            self.policy = dict(attrs)["content"] or ""
        if tag not in VOID:
            self._open.append(tag)
        if tag in self.inside:
            self.inside[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in self.inside:
            self.inside[self._open[-1]][-1] += data
        elif data.strip():
            self.words.append(data.strip())

    @property
    def data(self) -> dict[str, object]:
        """What the scripts are given."""
        kinds = [attributes.get("type") for tag, attributes in self.tags if tag == "script"]
        return orjson.loads(self.inside["script"][kinds.index("application/json")])  # type: ignore[no-any-return]


def hostile_run() -> RunResult:
    """A run in which every word wants to be markup."""
    return a_run(
        profile=HOSTILE,
        command=HOSTILE,
        broken_off=HOSTILE,
        versions={HOSTILE: HOSTILE},
        machine={HOSTILE: HOSTILE},
        settings={HOSTILE: HOSTILE},
        limits=[Limit(HOSTILE, HOSTILE, HOSTILE, held=False)],
        counts={HOSTILE: 1},
        events=[Event(1.0, HOSTILE)],
        notes=[HOSTILE],
        latencies=[replace(one, name=HOSTILE, unit=HOSTILE) for one in a_run().latencies],
        series=[replace(one, name=HOSTILE, unit=HOSTILE) for one in lines()],
    )


def test_a_page_shows_what_was_measured() -> None:
    """Limits with their verdict, counts, percentiles, notes, where it ran, and a place for each plot."""
    page = Page(render(a_run()))

    text = " ".join(page.words)
    for expected in (
        "1 of 2 limits not held",
        "accept to receiver, p99 <= 250 ms 412 ms not held",
        "asked 40,000",
        "accept_ to_ receiver ms 40,000 9.80 30.1 412 800 1,250",
        "A note of the run.",
        "python -m loadtest run load --seed 7",
        "60 s the rate doubles",
        "memory_gib 23.4",
        "rate_per_s 400",
        "postgresql 18.4",
        "2030-01-31 09:00:00 UTC",
        "CPU, cores",
    ):
        assert expected in text
    places = {attributes["id"] for tag, attributes in page.tags if tag == "div" and attributes.get("class") == "plot"}
    assert places == {chart["id"] for chart in page.data["charts"]}  # type: ignore[attr-defined]
    assert len(places) >= 8


def test_a_message_that_was_doubled_stands_out() -> None:
    """What must be 0 and is not is marked; what is 0 is not."""
    page = Page(render(a_run(counts={"lost": 0, "doubled": 1})))

    marked = [attributes.get("class") for tag, attributes in page.tags if tag == "div" and "class" in attributes]
    assert marked.count("alarm") == 1


def test_a_run_that_was_broken_off_says_why() -> None:
    """Before anything that was measured."""
    words = Page(render(a_run(broken_off="Ctrl-C"))).words

    assert any("Broken off: Ctrl-C." in word for word in words)
    assert "broken off" in words


def test_a_run_that_measured_nothing_has_a_page() -> None:
    """One that broke in its first second does, and a bench has neither plots nor counts."""
    page = Page(render(RunResult("bench", "accept", 7, "make bench", "2030-01-31T09:00:00+00:00", took_s=0.5)))

    assert "no limits set" in page.words
    assert page.data["charts"] == []
    assert "bench: accept" in page.words


def test_no_word_of_a_result_is_markup() -> None:
    """The same elements as with harmless words, and every hostile word is text."""
    page, harmless = Page(render(hostile_run())), Page(render(hostile_run_with_harmless_words()))

    assert [tag for tag, _ in page.tags] == [tag for tag, _ in harmless.tags]
    assert sum(HOSTILE.strip() in word for word in page.words) > 10
    assert page.data["events"] == [{"at_s": 1.0, "text": HOSTILE}]


def hostile_run_with_harmless_words() -> RunResult:
    """The same run, tamed."""
    return from_json(to_json(hostile_run()).replace(orjson.dumps(HOSTILE), b'"x"'))


@pytest.mark.parametrize("run", [a_run(), hostile_run()], ids=["plain", "hostile"])
def test_a_page_asks_no_network_and_runs_only_what_it_names(run: RunResult) -> None:
    """No element loads anything, and the policy allows exactly the styles and scripts that are there."""
    page = Page(render(run))

    loading = [value for _, attributes in page.tags for name, value in attributes.items() if name in {"src", "href"}]
    assert set(loading) == {"data:,", "index.html"}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "style"]
    assert not re.search(r"url\(|@import", "".join(page.inside["style"]))
    directives = dict(part.strip().split(" ", 1) for part in page.policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["style-src"] == sums(page.inside["style"])
    assert directives["script-src"] == sums([text for text in page.inside["script"] if not text.startswith("{")])


def sums(texts: list[str]) -> str:
    """Name texts as a policy does."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
    return " ".join(f"'sha256-{digest}'" for digest in digests)


def test_data_cannot_end_the_element_it_stands_in() -> None:
    """Neither a tag nor a comment begins in it, and it is read back as it was."""
    text = as_json({"a": HOSTILE})

    assert not set("<>&") & set(text)
    assert orjson.loads(str(text)) == {"a": HOSTILE}


def test_uplot_is_what_its_release_holds() -> None:
    """The bytes of version 1.6.32 as published, its licence among them."""
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in UPLOT.iterdir()}

    assert found == {
        "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
        "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
        "LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
    }
    assert "Permission is hereby granted" in render(a_run())
