"""`roadwork deploy`: a verified bundle becomes the one that is served, and back."""

from __future__ import annotations

import argparse
import getpass
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roadwork_core.console import Console
    from roadwork_core.deployment import Deployment
    from roadwork_core.errors import VerificationError

SCHEMA = "roadwork.deployment/1"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", nargs="?", type=Path, metavar="BUNDLE", help="the bundle's folder")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="the deployment's folder")
    doing = parser.add_mutually_exclusive_group()
    doing.add_argument(
        "--rollback",
        nargs="?",
        const="",
        metavar="VERSION",
        help="serve the version before the current one again, or the one whose name begins so",
    )
    doing.add_argument("--history", action="store_true", help="what was deployed when, by whom and why")
    parser.add_argument("--keep", type=int, default=5, metavar="N", help="versions that stay (default: 5)")
    parser.add_argument(
        "--max-ms",
        type=float,
        metavar="MS",
        help="refuse a bundle that takes longer for one decoded picture (95th percentile, on --device)",
    )
    parser.add_argument(
        "--champion-gate",
        type=Path,
        metavar="RECORD",
        help="refuse a bundle that this record of roadwork retrain does not promote over the deployed one",
    )
    parser.add_argument("--device", default="cpu", metavar="DEVICE", help="where to replay and time it (default: cpu)")
    parser.add_argument("--why", default="", metavar="TEXT", help="a word for the history")
    parser.add_argument("--who", metavar="NAME", help="who deploys, for the history (default: the user)")
    parser.add_argument("--json", action="store_true", help="print JSON: the entry made, or the history line by line")


def handle(options: argparse.Namespace, console: Console) -> int:
    from roadwork_core.deployment import Deployment

    _check(options)
    deployment = Deployment(options.to)
    if options.history:
        return _history(deployment, console)
    with deployment.locked():
        entry = _rollback(deployment, options, console) if options.bundle is None else None
        entry = entry or _deploy(deployment, options, console)
        entry["removed"] = deployment.prune(options.keep)
    if console.as_json:
        console.json({"schema": SCHEMA, **entry})
        return 0
    console.out(f"{options.to}/current is version {entry['version']}, before it {entry['previous'] or 'none'}")
    for name in entry["removed"]:
        console.info(f"removed version {name}")
    return 0


def _check(options: argparse.Namespace) -> None:
    from roadwork_core.deployment import Deployment
    from roadwork_core.errors import UsageError

    reading = options.history or options.rollback is not None
    if (options.bundle is None) != reading:
        raise UsageError("give a BUNDLE to deploy, or --rollback, or --history", hint="see roadwork deploy --help")
    if options.keep < 1:
        raise UsageError("--keep must be at least 1")
    if options.max_ms is not None and not options.max_ms > 0:
        raise UsageError("--max-ms must be above 0")
    if reading and not Deployment(options.to).versions.is_dir():
        raise UsageError("there is no such deployment", path=options.to)


def _entry(event: str, options: argparse.Namespace, **more: Any) -> dict[str, Any]:
    return {
        "time": datetime.now(UTC).isoformat(timespec="microseconds"),
        "event": event,
        "who": options.who or _user(),
        "why": options.why,
        **more,
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return f"uid {os.getuid()}"


def _deploy(deployment: Deployment, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    from roadwork_core.deployment.checks import check_challenge, check_latency, latency, verified
    from roadwork_core.errors import VerificationError
    from roadwork_core.plugins import Plugins

    seen: str | None = None
    measured: dict[str, float] | None = None
    try:
        bundle, runtime = verified(options.bundle, Plugins.load(), console, device=options.device)
        seen = bundle.id
        if options.max_ms is not None:
            measured = latency(runtime)
            check_latency(measured, options.max_ms, options.bundle)
        if options.champion_gate is not None:
            check_challenge(options.champion_gate, bundle.id, deployment.current())
    except VerificationError as error:
        _note_refusal(deployment, options, error, seen, measured)
        raise
    version = deployment.store(bundle.path, bundle.id)
    return _switch(deployment, version, _entry("deploy", options, bundle_id=bundle.id, latency_ms=measured))


def _note_refusal(
    deployment: Deployment,
    options: argparse.Namespace,
    error: VerificationError,
    bundle_id: str | None = None,
    measured: dict[str, float] | None = None,
) -> None:
    reasons = [problem.message for problem in error.problems()]
    deployment.note(_entry("refused", options, bundle_id=bundle_id, version=None, reasons=reasons, latency_ms=measured))


def _switch(deployment: Deployment, version: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Switches, but where the version is the current one, as after a command that was killed behind its switch."""
    if version == deployment.current():
        return {**entry, "event": "unchanged", "version": version, "previous": deployment.previous()}
    return deployment.switch(version, entry)


def _rollback(deployment: Deployment, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    from roadwork_core.deployment.checks import verified
    from roadwork_core.errors import RoadworkError, UsageError, VerificationError
    from roadwork_core.plugins import Plugins

    if options.rollback:
        names = deployment.names()
        matching = [name for name in names if name.startswith(options.rollback)]
        if len(matching) != 1:
            state = "names several versions" if matching else "is no version"
            raise UsageError(
                f"{options.rollback!r} {state}", path=options.to, hint=f"versions: {', '.join(names) or 'none'}"
            )
        version: str | None = matching[0]
    else:
        version = deployment.previous()
    if version is None:
        raise RoadworkError("there is no earlier version to go back to", path=options.to)
    try:
        bundle, _ = verified(deployment.versions / version, Plugins.load(), console, device=options.device)
    except VerificationError as error:
        _note_refusal(deployment, options, error)
        raise
    return _switch(deployment, version, _entry("rollback", options, bundle_id=bundle.id, latency_ms=None))


def _history(deployment: Deployment, console: Console) -> int:
    for entry in deployment.history():
        if console.as_json:
            console.json(entry)
            continue
        what = entry.get("version") or str(entry["bundle_id"] or "")[:12] or "-"
        words = entry["why"] or "; ".join(entry.get("reasons", ()))
        console.out(f"{entry['time'][:19]}  {entry['event']:<8}  {what:<14}  {entry['who']}  {words}".rstrip())
    return 0
