"""The HTML report: one file that needs nothing else, readable on a phone, on paper, in light and in dark."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import Factory, frozen

from .evaluation import DECISION_METRICS, SCORE_METRICS
from .figures import PALETTE, Figure

TEMPLATE = "report.html.j2"
#: Metrics of which less is better, and which therefore get no bar from 0 to 1.
LESS_IS_BETTER = frozenset({"nll", "brier", "ece", "selective_risk"})
TITLES = {
    "mcc": "MCC",
    "f1": "F1",
    "auroc": "AUROC",
    "nll": "NLL",
    "ece": "ECE",
    "brier": "Brier",
}
_DARK = {
    "ink": "#e8eaed",
    "muted": "#9aa4ad",
    "grid": "#30363d",
    "paper": "#14181c",
    "accent": "#6ea8ff",
    "warm": "#ff9259",
    "wash": "#1f3557",
}


@frozen(kw_only=True)
class Mistake:
    """A test picture on which the active policy was wrong; `jpeg` is a thumbnail, or None where there is none."""

    path: str
    truth: str
    decided: str
    score: float
    reason: str
    jpeg: bytes | None = None

    @property
    def data_url(self) -> str:
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg or b'').decode()}"


@frozen(kw_only=True)
class Report:
    """All that the page shows. `metrics` is metrics.json, `data` prepare's report, `policies` the policy documents."""

    name: str
    description: str
    metrics: Mapping[str, Any]
    policies: Mapping[str, Mapping[str, Any]]
    figures: Sequence[Figure]
    mistakes: Sequence[Mistake] = ()
    mistakes_total: int = 0
    data: Mapping[str, Any] = Factory(dict)
    spec: str = ""
    versions: Mapping[str, str] = Factory(dict)


def render(report: Report) -> str:
    """The page. The same report gives the same bytes."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": number, "percent": percent, "title": title, "interval": interval}
    test = report.metrics["test"]
    return environment.get_template(TEMPLATE).render(
        report=report,
        metrics=report.metrics,
        decision_tiles=[_tile(name, test[name]) for name in DECISION_METRICS if name in test],
        score_tiles=[_tile(name, test[name]) for name in SCORE_METRICS if name in test],
        splits=split_rows(report.data),
        light=PALETTE,
        dark=_DARK,
    )


def _tile(name: str, figure: Mapping[str, Any]) -> dict[str, Any]:
    low, high, value = figure["low"], figure["high"], figure["value"]
    bar = None
    if name not in LESS_IS_BETTER and None not in (low, high, value):
        left, right = (max(0.0, min(1.0, bound)) for bound in (low, high))
        bar = {
            "left": f"{100 * left:.2f}",
            "width": f"{100 * max(right - left, 0.004):.2f}",
            "dot": f"{100 * value:.2f}",
        }
    return {"name": name, "figure": figure, "bar": bar}


def split_rows(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the data table from prepare's report: split, counts per class, samples and groups."""
    rows = []
    for split, entry in (data.get("splits") or {}).items():
        counts = entry.get("classes", entry.get("counts", {})) if isinstance(entry, Mapping) else {}
        rows.append(
            {
                "split": split,
                "classes": dict(counts),
                "n": entry.get("n", sum(counts.values())) if isinstance(entry, Mapping) else entry,
                "groups": entry.get("groups") if isinstance(entry, Mapping) else None,
            }
        )
    return rows


def title(name: str) -> str:
    """A metric's or option's name for people."""
    return TITLES.get(name, name.replace("_", " "))


def number(value: float | None, digits: int = 3) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"


def percent(value: float | None, digits: int = 1) -> str:
    return "n/a" if value is None else f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"


def interval(figure: Mapping[str, Any], as_percent: bool = False) -> str:
    """The bounds of a figure in words, or that none can be given."""
    low, high = figure.get("low"), figure.get("high")
    if low is None or high is None:
        return "no interval (too few groups)"
    shown = percent if as_percent else number
    return f"{shown(low)} to {shown(high)}"
