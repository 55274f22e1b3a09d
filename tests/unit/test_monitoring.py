"""Dashboards and alerts ask for series that the code really has."""

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY, Counter, Gauge, Histogram

from tests.dockerfiles import EXTRAS

REPOSITORY = Path(__file__).resolve().parents[2]
WORDS = {
    "sum",
    "max",
    "min",
    "by",
    "rate",
    "increase",
    "deriv",
    "count",
    "vector",
    "or",
    "and",
    "unless",
    "offset",
    "histogram_quantile",
}
FROM_PROMETHEUS = {"up", "process_resident_memory_bytes", "process_cpu_seconds_total"}


def dashboards() -> list[dict[str, Any]]:
    """All dashboards."""
    return [json.loads(path.read_text()) for path in (REPOSITORY / "infra/grafana/dashboards").glob("*.json")]


def rules() -> list[dict[str, Any]]:
    """All alerts."""
    groups = yaml.safe_load((REPOSITORY / "infra/prometheus/alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> list[str]:
    """What the panels and the alerts ask for."""
    panels = [panel for board in dashboards() for panel in board["panels"]]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    return asked + [rule["expr"] for rule in rules()]


def known() -> dict[str, set[str]]:
    """The series of the four services and their labels."""
    for service in EXTRAS:
        importlib.import_module(f"{service}.metrics")
    series: dict[str, set[str]] = {}
    for name, collector in REGISTRY._names_to_collectors.items():
        labels = {"job", "instance", *getattr(collector, "_labelnames", ())}
        series[name] = labels | ({"le"} if name.endswith("_bucket") else set())
    return series | {name: {"job", "instance"} for name in FROM_PROMETHEUS}


@pytest.mark.parametrize("expression", expressions())
def test_its_series_and_labels_exist(expression: str) -> None:
    """No panel stays empty, and no alert silent, because of a name."""
    series = known()
    grouped = {label for names in re.findall(r"by \(([^)]*)\)", expression) for label in re.split(r",\s*", names)}
    matched = set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", expression))
    bare = re.sub(r"by \([^)]*\)|\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", " ", expression)
    asked = set(re.findall(r"[a-z_][a-z0-9_]{1,}", bare)) - WORDS

    assert asked
    assert asked - series.keys() == set()
    assert (matched | grouped) - set().union(*(series[name] for name in asked)) == set()


def test_every_series_of_ours_is_on_a_dashboard() -> None:
    """What nobody looks at need not be counted."""
    code = "".join((REPOSITORY / service / "metrics.py").read_text() for service in EXTRAS)
    asked = " ".join(expressions())

    ours = re.findall(r'(?:Counter|Gauge|Histogram)\(\s*"([a-z_]+)"', code)
    assert [name for name in ours if name not in asked] == []


def test_every_alert_says_what_to_do() -> None:
    """Its runbook is a heading of a page that exists."""
    for rule in rules():
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        headings = re.findall(r"(?m)^#+ (.+)$", (REPOSITORY / page).read_text())
        assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert rule["labels"]["severity"] in {"page", "ticket"}


def test_the_datasource_of_the_panels_is_the_one_provisioned() -> None:
    """By its uid."""
    provisioned = yaml.safe_load((REPOSITORY / "infra/grafana/provisioning/datasources/prometheus.yml").read_text())
    uids = {one["uid"] for one in provisioned["datasources"]}

    used = {panel["datasource"]["uid"] for board in dashboards() for panel in board["panels"] if "datasource" in panel}
    assert used == uids


def documented() -> list[tuple[str, ...]]:
    """The rows docs/metrics.md should have: series, kind, labels, meaning, in the order of the code."""
    rows: list[tuple[str, ...]] = []
    for service in EXTRAS:
        module = importlib.import_module(f"{service}.metrics")
        for metric in vars(module).values():
            if isinstance(metric, Counter | Gauge | Histogram):
                name = metric._name + ("_total" if isinstance(metric, Counter) else "")
                labels = ", ".join(f"`{label}`" for label in metric._labelnames)
                rows.append((service, name, type(metric).__name__.lower(), labels, metric._documentation))
    return rows


def test_every_series_is_documented_as_the_code_has_it() -> None:
    """docs/metrics.md: name, kind, labels and meaning."""
    page = (REPOSITORY / "docs/metrics.md").read_text()
    shown: list[tuple[str, ...]] = []
    for service, table in re.findall(r"(?ms)^## (\w+)$(.*?)(?=^## |\Z)", page):
        rows = re.findall(r"(?m)^\| `(\w+)` \| (\w+) \| (.*?) \| (.+?) \|$", table)
        shown += [(service, *(cell.strip() for cell in row)) for row in rows]

    assert shown == documented()
