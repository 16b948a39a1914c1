"""The HTML report: one file that needs nothing else, readable on a phone, on paper, in light and in dark."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import Factory, frozen

from ..spec import SPLITS
from .evaluation import DECISION_METRICS, SCORE_METRICS, headline
from .figures import PALETTE, Figure

if TYPE_CHECKING:
    import jinja2

TEMPLATE = "report.html.j2"
#: Metrics of which less is better, and which therefore get no bar from 0 to 1.
LESS_IS_BETTER = frozenset({"nll", "brier", "ece", "aurc", "selective_risk"})
#: With fewer groups of a class than this a bootstrap of them understates what is not known.
FEW_GROUPS = 10
TITLES = {
    "mcc": "MCC",
    "f1": "F1",
    "auroc": "AUROC",
    "nll": "NLL",
    "ece": "ECE",
    "aurc": "AURC",
    "brier": "Brier",
}
#: The same roles on a dark page.
DARK = {
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
    """A picture on which the active policy was wrong; `jpeg` is a thumbnail, or None where there is none."""

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
    #: What else must be known to read the figures, in a sentence.
    note: str = ""


def render(report: Report) -> str:
    """The page. The same report gives the same bytes."""
    filters: dict[str, Callable[..., str]] = {
        "figure": number,
        "percent": percent,
        "title": title,
        "interval": interval,
    }
    head = headline(report.metrics["policies"][report.metrics["active"]])
    return page_template(Path(__file__).with_name(TEMPLATE), filters).render(
        report=report,
        metrics=report.metrics,
        head=head,
        few_groups=[name for name, n in report.metrics.get("groups_by_class", {}).items() if 0 < n < FEW_GROUPS],
        slices=slice_tables(report.metrics.get("slices", ())),
        decision_tiles=[_tile(name, head[name]) for name in DECISION_METRICS],
        score_tiles=[_tile(name, head[name]) for name in SCORE_METRICS],
        splits=split_rows(report.data),
        notes=data_notes(report.data),
        light=PALETTE,
        dark=DARK,
    )


def page_template(path: Path, filters: Mapping[str, Callable[..., str]]) -> jinja2.Template:
    """A page's template: what it shows is escaped, and a name that it does not have is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(path.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= dict(filters)
    return environment.get_template(path.name)


def _tile(name: str, figure: Mapping[str, Any]) -> dict[str, Any]:
    low, high, value = figure["low"], figure["high"], figure["value"]
    bar = None
    if name not in LESS_IS_BETTER and None not in (low, high, value):
        left, right, dot = (max(0.0, min(1.0, place)) for place in (low, high, value))
        bar = {
            "left": f"{100 * left:.2f}",
            "width": f"{100 * max(right - left, 0.004):.2f}",
            "dot": f"{100 * dot:.2f}",
        }
    return {"name": name, "figure": figure, "bar": bar}


def split_rows(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the data table from prepare's report, in the order of the splits' use."""
    found: Mapping[str, Any] = data.get("splits", {})
    order = [split for split in SPLITS if split in found] + sorted(set(found) - set(SPLITS))
    return [
        {
            "split": split,
            "classes": dict(found[split]["classes"]),
            "n": found[split]["samples"],
            "groups": found[split]["groups"],
        }
        for split in order
    ]


def slice_tables(slices: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The entries of each tag, in their order."""
    tables: dict[str, list[Mapping[str, Any]]] = {}
    for entry in slices:
        tables.setdefault(entry["tag"], []).append(entry)
    return tables


def data_notes(data: Mapping[str, Any]) -> list[str]:
    """What else prepare found, each in a sentence."""
    notes = []
    bad, near = data.get("bad_images", {}), data.get("near_duplicates", {})
    if bad.get("count"):
        notes.append(f"{bad['count']} pictures could not be read and were left out.")
    if near.get("pairs"):
        notes.append(f"{near['pairs']} pairs of near-duplicates were found; each pair is in one split.")
    for side in ("width", "height"):
        if side in data:
            least, median, most = (data[side][name] for name in ("min", "median", "max"))
            told = f"{least} to {most} pixels, median {median}" if least != most else f"{least} pixels"
            notes.append(f"{side.capitalize()} {told}.")
    return notes + [f"{warning}." for warning in data.get("warnings", [])]


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
