"""Reading /metrics: each series summed over its labels."""

import urllib.request
from collections import defaultdict


def scrape(url: str) -> dict[str, float]:
    """Fetch and parse a page in Prometheus' text format. Raises OSError."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as answer:
        return parse(answer.read().decode())


def parse(text: str) -> dict[str, float]:
    """Return the value of each series, summed over its labels."""
    sums: dict[str, float] = defaultdict(float)
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            sums[name.partition("{")[0]] += float(value)
    return dict(sums)
