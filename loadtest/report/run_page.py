"""The page of one run."""

from pathlib import Path

from loadtest.report.charts import charts, for_browser
from loadtest.report.figures import title, verdict, verdict_words
from loadtest.report.inlining import page, write_whole
from loadtest.results import RunResult

_MUST_BE_NONE = frozenset(
    ("lost", "on_their_way", "doubled", "misplaced", "unexplained", "foreign", "refused", "unanswered")
)


def render(result: RunResult) -> str:
    """Return the page of a run: one HTML file, no network."""
    drawn = charts(result)
    data = {
        "charts": [for_browser(chart) for chart in drawn],
        "events": [{"at_s": event.at_s, "text": event.text} for event in result.events],
    }
    return page(
        "run.html",
        scripts=["charts.js", "run.js"],
        data=data,
        result=result,
        charts=drawn,
        title=title(result),
        verdict=verdict(result),
        verdict_words=verdict_words(result),
        alarming={name for name in _MUST_BE_NONE if result.counts.get(name)},
    )


def write(result: RunResult, path: Path) -> Path:
    """Write the page of a run, beside the JSON file of the same name; return its path."""
    write_whole(path, render(result))
    return path
