"""The report of a sweep: one HTML file that needs nothing else, with a table and parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..report.html import page_template

WIDTH, HEIGHT, MARGIN = 1000, 320, 60
_TOP, _BOTTOM = 46, HEIGHT - 40


def render(document: Mapping[str, Any], logarithmic: Sequence[str] = ()) -> str:
    """The page of a `roadwork.sweep/1` document; `logarithmic` names keys whose axis is. The same in, the same out."""
    template = page_template(Path(__file__).with_name("sweep.html.j2"), {"value": shown, "interval": interval})
    trials = list(document["trials"])
    sign = -1.0 if document["lower_is_better"] else 1.0
    finished = [trial for trial in trials if trial["val_select"] is not None]
    ranked = sorted(finished, key=lambda trial: -sign * trial["val_select"]["value"])
    return template.render(
        sweep=document,
        keys=list(document["parameters"]),
        ranked=ranked,
        pruned=[trial for trial in trials if trial["status"] == "pruned"],
        failed=[trial for trial in trials if trial["status"] == "failed"],
        axes=axes_of(document, finished, logarithmic),
        lines=lines_of(document, ranked, logarithmic),
        width=WIDTH,
        height=HEIGHT,
        top=_TOP,
        bottom=_BOTTOM,
    )


def shown(value: Any) -> str:
    """A value of a key, short."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def interval(figure: Mapping[str, Any]) -> str:
    """A figure with its bounds."""
    if figure["low"] is None or figure["high"] is None:
        return f"{figure['value']:.3f} [no interval]"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def axes_of(
    document: Mapping[str, Any], finished: Sequence[Mapping[str, Any]], logarithmic: Sequence[str]
) -> list[dict[str, Any]]:
    """One axis per key and one for the figure: its place, and its ticks."""
    scales = _scales(document, finished, logarithmic)
    return [
        {
            "x": f"{_x(index, len(scales)):.1f}",
            "title": key,
            "ticks": [{"y": f"{_y(place):.1f}", "text": shown(value)} for value, place in scale.ticks()],
        }
        for index, (key, scale) in enumerate(scales.items())
    ]


def lines_of(
    document: Mapping[str, Any], ranked: Sequence[Mapping[str, Any]], logarithmic: Sequence[str]
) -> list[dict[str, Any]]:
    """One line per finished trial, the best one last so that it lies on top."""
    scales = _scales(document, ranked, logarithmic)
    lines = []
    for rank, trial in enumerate(ranked):
        values = {**trial["parameters"], document["metric"]: trial["val_select"]["value"]}
        points = [
            f"{_x(index, len(scales)):.1f},{_y(scale.place(values[key])):.1f}"
            for index, (key, scale) in enumerate(scales.items())
        ]
        strength = 1.0 - 0.85 * rank / max(1, len(ranked) - 1)
        lines.append(
            {"points": " ".join(points), "name": trial["name"], "opacity": f"{strength:.2f}", "best": rank == 0}
        )
    return lines[::-1]


class _Scale:
    """Where a value lies on an axis, from 0 (below) to 1; other values than numbers lie evenly, in their order."""

    def __init__(self, values: Sequence[Any], *, log: bool) -> None:
        self._names = list(dict.fromkeys(values))
        self._numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in self._names)
        self._log = log and self._numeric and min(self._names) > 0
        numbers = [self._number(value) for value in self._names] if self._numeric else []
        self._low, self._high = (min(numbers), max(numbers)) if numbers else (0.0, 0.0)

    def _number(self, value: Any) -> float:
        return math.log(value) if self._log else float(value)

    def place(self, value: Any) -> float:
        if not self._numeric:
            return 0.5 if len(self._names) == 1 else self._names.index(value) / (len(self._names) - 1)
        return 0.5 if self._low == self._high else (self._number(value) - self._low) / (self._high - self._low)

    def ticks(self) -> list[tuple[Any, float]]:
        few = self._names if len(self._names) <= 8 else [min(self._names), max(self._names)] if self._numeric else []
        return [(value, self.place(value)) for value in few]


def _scales(
    document: Mapping[str, Any], trials: Sequence[Mapping[str, Any]], logarithmic: Sequence[str]
) -> dict[str, _Scale]:
    if not trials:
        return {}
    scales = {
        key: _Scale([trial["parameters"][key] for trial in trials], log=key in logarithmic)
        for key in document["parameters"]
    }
    figures = [trial["val_select"]["value"] for trial in trials]
    scales[document["metric"]] = _Scale([max(figures), min(figures)], log=False)
    return scales


def _x(index: int, count: int) -> float:
    return MARGIN + (WIDTH - 2 * MARGIN - 40) * index / max(1, count - 1)


def _y(place: float) -> float:
    return _BOTTOM - place * (_BOTTOM - _TOP)
