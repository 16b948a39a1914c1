"""`roadwork leaderboard`: where an entry stands, what it was before, and when that is an alarm."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import common_options
from .run import _terminate_as_interrupt, add_override_options

if TYPE_CHECKING:
    from roadwork_core.console import Console
    from roadwork_core.leaderboard import Look
    from roadwork_core.spec import ResolvedSpec
    from roadwork_core.spec.model import Watched

SCHEMA = "roadwork.standing/1"
DAY = 86_400.0
#: Polls that the report prints.
SHOWN = 10


def configure(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    watching = commands.add_parser(
        "watch", help="look at the leaderboard, once or again and again", parents=[common_options()]
    )
    reporting = commands.add_parser("report", help="tell what was seen so far", parents=[common_options()])
    for child in (watching, reporting):
        child.add_argument("spec", type=Path, metavar="SPEC", help="a spec with a table [leaderboard]")
        add_override_options(child)
        child.add_argument("--entry", metavar="NAME", help="whose standing (default: leaderboard.entry)")
        child.add_argument("--history", type=Path, metavar="FILE", help="(default: leaderboard.history)")
    watching.add_argument(
        "--every", type=float, metavar="SECONDS", help="look again after this long (default: look once)"
    )
    watching.add_argument("--count", type=int, metavar="N", help="with --every: look N times (default: without end)")
    reporting.add_argument("--since", type=float, metavar="DAYS", help="only what was seen in the last DAYS days")
    reporting.add_argument("--out", type=Path, metavar="FILE", help="write an HTML page as well")
    own = reporting.add_mutually_exclusive_group()
    own.add_argument("--feedback", type=Path, metavar="STORE", help="estimate the reward from this feedback store")
    own.add_argument("--scores", type=Path, metavar="FILE", help="estimate it from these logits, labelled, cut at 0.5")
    reporting.add_argument(
        "--positive", metavar="NAME", help="the positive label in STORE (default: data.positive, else roadwork)"
    )
    watching.add_argument("--json", action="store_true", help="print one JSON document per look and line")
    reporting.add_argument("--json", action="store_true", help="print one JSON document")


def handle(options: argparse.Namespace, console: Console) -> int:
    from roadwork_core.plugins import Plugins
    from roadwork_core.spec import load_spec

    resolved = load_spec(options.spec, Plugins.load(), overrides=options.overrides, unset=options.unset)
    for warning in resolved.warnings:
        console.warn(str(warning))
    watched, entry = _watched(resolved, options)
    path = options.history or Path(watched.history)
    if options.action == "watch":
        return _watch(watched, entry, path, options, console)
    return _report(resolved, watched, entry, path, options, console)


def _watched(resolved: ResolvedSpec, options: argparse.Namespace) -> tuple[Watched, str]:
    from roadwork_core.errors import Problem, SpecError, UsageError

    watched = resolved.spec.leaderboard
    if watched is None:
        raise UsageError("the spec has no table [leaderboard]", path=options.spec, hint="see roadwork plugins list")
    entry = options.entry or watched.entry
    if not entry:
        origin = resolved.origin("leaderboard")
        raise SpecError([Problem("whose standing is not said", "leaderboard.entry", origin, "set it, or give --entry")])
    return watched, entry


def _watch(watched: Watched, entry: str, path: Path, options: argparse.Namespace, console: Console) -> int:
    from roadwork_core.errors import UsageError
    from roadwork_core.kinds import LeaderboardContext
    from roadwork_core.leaderboard import History, Rules, Watcher

    if options.every is not None and not 0 < options.every <= 365 * DAY:
        raise UsageError(f"--every {options.every:g}: it must be above 0 and at most a year")
    if options.count is not None and (options.every is None or options.count < 1):
        raise UsageError("--count must be at least 1, and goes with --every")
    webhook = _webhook(watched)
    component = watched.component
    board = component.build(LeaderboardContext(report=console.info))
    rules = Rules(drop=watched.alert_drop, worst=watched.alert_rank)
    with History(path) as history, _terminate_as_interrupt():
        watcher = Watcher(
            board=board, source=component.source, entry=entry, history=history, rules=rules, webhook=webhook
        )
        if options.every is None:
            return _tell_all([watcher.look()], console)
        return _tell_all(watcher.looks(every=options.every, count=options.count), console)


def _webhook(watched: Watched) -> str | None:
    from roadwork_core.errors import UsageError
    from roadwork_core.fetching import check_url

    if watched.webhook_env is None:
        return None
    url = os.environ.get(watched.webhook_env, "").strip()
    if not url:
        raise UsageError(f"the environment variable {watched.webhook_env}, which is to hold the webhook, is not set")
    try:
        check_url(url)
    except UsageError as error:
        raise UsageError(f"{watched.webhook_env}: {error.message}", hint=error.hint) from None
    return url


def _tell_all(looks: Iterable[Look], console: Console) -> int:
    """4 where any look was an alarm, else 1 where any went wrong or left an alarm unsent, else 0."""
    from roadwork_core.errors import ExitCode

    alarm = wrong = False
    for look in looks:
        _tell(look, console)
        alarm = alarm or bool(look.alerts)
        wrong = wrong or look.poll.error is not None or look.unsent is not None
    return ExitCode.VERIFICATION if alarm else ExitCode.FAILED if wrong else ExitCode.OK


def _tell(look: Look, console: Console) -> None:
    from roadwork_core.leaderboard.reporting import look_json

    found = look_json(look.poll)
    if console.as_json:
        alerts = [{"kind": alert.kind, "text": alert.text} for alert in look.alerts]
        console.json({"schema": SCHEMA, **found, "alerts": alerts, "unsent": look.unsent})
    elif look.poll.error is None:
        console.out(_line(found))
    if look.poll.error is not None:
        console.error(look.poll.error)
    for alert in look.alerts:
        console.warn(alert.text)
    if look.unsent is not None:
        console.warn(f"the webhook was not told, and will be with the next look: {look.unsent}")


def _line(found: Mapping[str, Any]) -> str:
    """A poll on one line."""
    from roadwork_core.errors import printable
    from roadwork_core.leaderboard.reporting import number, signed

    if found["error"] is not None:
        return printable(f"{found['time']}  {found['error']}")
    if found["rank"] is None:
        return f"{found['time']}  absent from {found['entries']} entr{'y' if found['entries'] == 1 else 'ies'}"
    tied = f" (shared with {found['tied']})" if found["tied"] else ""
    return (
        f"{found['time']}  rank {found['rank']} of {found['entries']}{tied}  score {number(found['score'])}"
        f"  to the leader {signed(found['to_leader'])}  to the next {signed(found['to_next'])}"
        f"  percentile {number(found['percentile'])}"
    )


def _report(
    resolved: ResolvedSpec, watched: Watched, entry: str, path: Path, options: argparse.Namespace, console: Console
) -> int:
    from roadwork_core.errors import UsageError
    from roadwork_core.files import write_atomic
    from roadwork_core.leaderboard import History
    from roadwork_core.leaderboard.reporting import render, report_json

    if options.since is not None and not 0 < options.since < 100_000:
        raise UsageError(f"--since {options.since:g}: it must be above 0 days")
    since = None if options.since is None else time.time() - options.since * DAY
    estimate = _estimate(resolved, options, since)
    with History(path, create=False) as history:
        document = report_json(history, watched.component.source, entry, since=since, estimate=estimate)
    if options.out is not None:
        write_atomic(options.out, render(document).encode())
    if console.as_json:
        console.json({**document, "out": str(options.out) if options.out else None})
    else:
        _print(document, options.out, console)
    return 0


def _estimate(resolved: ResolvedSpec, options: argparse.Namespace, since: float | None) -> dict[str, Any] | None:
    if options.scores is None and options.feedback is None:
        return None
    from roadwork_core.leaderboard.estimate import from_feedback, from_scores

    if options.scores is not None:
        return from_scores(options.scores)
    return from_feedback(options.feedback, options.positive or resolved.spec.data.positive or "roadwork", since=since)


def _print(document: Mapping[str, Any], out: Path | None, console: Console) -> None:
    from roadwork_core.errors import printable

    console.out(printable(f"{document['entry']} on {document['source']}"))
    if not document["polls"]:
        console.out("nothing was seen yet")
    hidden = document["polls"] - SHOWN
    if hidden > 0:
        console.out(f"({hidden} earlier polls: --json has them)")
    for poll in document["history"][-SHOWN:]:
        console.out(_line(poll))
    if document["best_rank"] is not None:
        console.out(f"best     rank {document['best_rank']}, worst {document['worst_rank']}")
    for alert in document["alerts"][-SHOWN:]:
        console.out(printable(f"alarm    {alert['time']}  {alert['text']}"))
    if (own := document["estimate"]) is not None:
        value, low, high = (own["reward"][key] for key in ("value", "low", "high"))
        bounds = "no interval" if low is None else f"{low:.3f}, {high:.3f}"
        console.out(f"own      expected reward {value:.3f}  [{bounds}]  of {own['n']} labelled answers")
        if own["last"]:
            console.out(f"own      the last {own['last']['n']} answers earn {own['last']['reward']:.3f}")
    if out is not None:
        console.out(f"page     {out}")
