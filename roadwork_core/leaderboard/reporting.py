"""The history of an entry as one document, and as a page that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..report.figures import PALETTE, Figure, draw
from ..report.html import DARK, page_template
from .history import History, Poll
from .watching import moment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCHEMA = "roadwork.leaderboard/1"
#: Points of a line beyond which it is thinned: more than the page has pixels.
MOST_POINTS = 2000
#: The shortest time that a figure shows, in days.
SHORTEST = 1 / 24


def look_json(poll: Poll) -> dict[str, Any]:
    """One poll as a JSON table."""
    standing = poll.standing
    figures = ("rank", "score", "tied", "to_leader", "to_next", "percentile")
    return {
        "time": moment(poll.time),
        "source": poll.source,
        "entry": poll.entry,
        "entries": poll.entries,
        **{name: getattr(standing, name) if standing else None for name in figures},
        "leader": poll.leader,
        "leader_score": poll.leader_score,
        "error": poll.error,
    }


def report_json(
    history: History, source: str, entry: str, *, since: float | None = None, estimate: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Everything that is known of an entry: the last standing, the best and worst rank, every poll and every alarm."""
    polls = history.polls(source, entry, since=since)
    read = [poll for poll in polls if poll.error is None]
    ranks = [poll.standing.rank for poll in read if poll.standing]
    return {
        "schema": SCHEMA,
        "source": source,
        "entry": entry,
        "polls": len(polls),
        "failed": len(polls) - len(read),
        "first": moment(polls[0].time) if polls else None,
        "last": moment(polls[-1].time) if polls else None,
        "now": look_json(read[-1]) if read else None,
        "best_rank": min(ranks, default=None),
        "worst_rank": max(ranks, default=None),
        "alerts": [
            {"time": moment(poll.time), "kind": alert.kind, "text": alert.text}
            for poll, alert in history.alerts(source, entry, since=since)
        ],
        "unsent": history.waiting(source, entry),
        "estimate": dict(estimate) if estimate is not None else None,
        "history": [look_json(poll) for poll in polls],
    }


def render(document: Mapping[str, Any]) -> str:
    """The page of a `roadwork.leaderboard/1` document. The same in, the same out."""
    filters = {"number": number, "signed": signed}
    return page_template(Path(__file__).with_name("leaderboard.html.j2"), filters).render(
        board=document,
        now=document["now"],
        figures=[_ranks(document["history"]), _scores(document["history"])] if document["best_rank"] else [],
        polls=list(reversed(document["history"]))[:100],
        light=PALETTE,
        dark=DARK,
    )


def number(value: float | None, digits: int = 6) -> str:
    """A score or gap in up to so many digits, a dash for none."""
    return "-" if value is None else f"{value:.{digits}g}"


def signed(value: float | None, digits: int = 6) -> str:
    """What is missing to somebody better."""
    return "-" if value is None else "0" if value == 0 else f"-{value:.{digits}g}"


def thinned(points: Sequence[tuple[Any, float]], most: int = MOST_POINTS) -> list[tuple[Any, float]]:
    """The points at which a line changes, its ends, and of these no more than `most`, evenly chosen."""
    kept = [
        point
        for index, point in enumerate(points)
        if index in (0, len(points) - 1)
        or not _same(point[1], points[index - 1][1])
        or not _same(point[1], points[index + 1][1])
    ]
    step = -(-len(kept) // most)
    return kept if step <= 1 else [*kept[::step], *([] if (len(kept) - 1) % step == 0 else kept[-1:])]


def _same(first: float, second: float) -> bool:
    return first == second or (first != first and second != second)


def _points(history: Sequence[Mapping[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """Times as matplotlib counts them and values of a figure; nan, a gap in the line, where it is not known."""
    from matplotlib.dates import date2num

    points = [
        (datetime.strptime(row["time"], "%Y-%m-%dT%H:%M:%S%z"), float("nan") if row[name] is None else row[name])
        for row in history
    ]
    kept = thinned(points)
    return [float(date2num(time)) for time, _ in kept], [value for _, value in kept]


def _ranks(history: Sequence[Mapping[str, Any]]) -> Figure:
    from matplotlib.ticker import MaxNLocator

    def plot(axes: Axes) -> None:
        _line(axes, history, "rank", "accent")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.invert_yaxis()
        axes.set_ylabel("rank")
        _dates(axes)

    caption = "1 is the leader. A gap is a time in which the board could not be read or did not list the entry."
    return draw("rank", "Rank over time", caption, plot, size=(9.4, 3.3))


def _scores(history: Sequence[Mapping[str, Any]]) -> Figure:
    def plot(axes: Axes) -> None:
        _line(axes, history, "leader_score", "muted", "the leader")
        _line(axes, history, "score", "accent", "the entry")
        axes.set_ylabel("score")
        axes.legend(loc="best")
        _dates(axes)

    return draw("score", "Score over time", "In the leaderboard's own units.", plot, size=(9.4, 3.3))


def _line(axes: Axes, history: Sequence[Mapping[str, Any]], name: str, colour: str, label: str = "") -> None:
    times, values = _points(history, name)
    # A poll between two gaps is a point without a line, so no point goes without a mark.
    size = 3.5 if len(times) < 60 else 1.0
    axes.plot(
        times, values, drawstyle="steps-post", color=PALETTE[colour], marker="o", markersize=size, label=label or None
    )


def _dates(axes: Axes) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    first, last = axes.dataLim.intervalx
    if last - first < SHORTEST:
        axes.set_xlim((first + last - SHORTEST) / 2, (first + last + SHORTEST) / 2)
    locator = AutoDateLocator(tz=UTC)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))
    axes.set_xlabel("time (UTC)")
