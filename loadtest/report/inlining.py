"""One HTML file out of templates, styles, scripts and data, that asks no network for anything.

What the page may run is named by its hash in a Content-Security-Policy, and it may load nothing: a browser itself holds
the promise that it needs no network, and markup that slipped past the escaping would not run.
"""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from loadtest.report import figures

_HERE = Path(__file__).parent
# Copied from its release on npm: the one package of the Python index that carries it has a version of 2021, and asks
# for NumPy and IPython beside. A test compares the bytes with their sums.
UPLOT = _HERE / "vendor" / "uplot-1.6.32"


def page(template: str, *, scripts: list[str], data: Any, **shown: Any) -> str:
    """Fill a template; it finds `head` (styles and policy), `body_end` (data and scripts), and what is `shown`.

    The scripts are names of files beside this one; uPlot goes before them. They find the data as JSON in the element
    `data`.
    """
    styles = [_text(UPLOT / "uPlot.min.css"), _text(_HERE / "report.css")]
    code = [_with_licence(), *(_text(_HERE / name) for name in scripts)]
    policy = (
        f"default-src 'none'; img-src data:; style-src {' '.join(map(_sum, styles))}; "
        f"script-src {' '.join(map(_sum, code))}; base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template(template)
        .render(
            policy=policy,
            styles=[Markup(f"<style>{text}</style>") for text in styles],  # noqa: S704 - files of this directory
            scripts=[Markup(f"<script>{text}</script>") for text in code],  # noqa: S704
            data=as_json(data),
            **shown,
        )
    )


def as_json(data: Any) -> Markup:
    """Write data so that nothing in it can end the element it stands in."""
    text = orjson.dumps(data).decode()
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704


def write_whole(path: Path, text: str) -> None:
    """Write a file that no reader ever sees half of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_name(path.name + ".new")
    written.write_text(text, encoding="utf-8")
    written.replace(path)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": figures.number, "duration": figures.duration, "instant": figures.instant}
    environment.filters["breakable"] = breakable
    return environment


def breakable(name: str) -> Markup:
    """Let a long name break at its underscores."""
    return Markup("_<wbr>").join(name.split("_"))


def _with_licence() -> str:
    """UPlot's code behind the notice that has to go with each copy."""
    return f"/*!\n{_text(UPLOT / 'LICENSE')}*/\n{_text(UPLOT / 'uPlot.iife.min.js')}"


@cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _sum(text: str) -> str:
    """Name a text as a Content-Security-Policy does."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
