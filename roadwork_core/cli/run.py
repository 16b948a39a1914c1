"""`roadwork run`: the whole line from a spec to a verified bundle."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roadwork_core.console import Console
    from roadwork_core.plugins import Plugins
    from roadwork_core.runs import Run, StageOutcome
    from roadwork_core.runs.team import Team
    from roadwork_core.spec import ResolvedSpec

SCHEMA = "roadwork.run/1"
GOES_ON = "the same command goes on from here"
HEADLINE = ("mcc", "accuracy", "f1", "auroc")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", type=Path, metavar="SPEC", help="the spec, a TOML file")
    add_override_options(parser)
    parser.add_argument(
        "--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="where runs are kept (default: runs)"
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=None,
        metavar="N",
        help="train in N processes of this machine, on as many GPUs or on the CPU (default: 1)",
    )
    parser.add_argument(
        "--shard",
        action="store_true",
        help="each process holds a share of the weights while it trains (FSDP2), for models that do not fit",
    )
    parser.add_argument("--dry-run", action="store_true", help="say which stages would run, and stop")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON document")


def add_override_options(parser: argparse.ArgumentParser) -> None:
    """`--set` and `--unset`, the same for every command that reads a spec."""
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="give a key of the spec another value, written as in TOML; may be repeated",
    )
    parser.add_argument(
        "--unset", action="append", default=[], metavar="KEY", help="take a key out of the spec; may be repeated"
    )


def handle(options: argparse.Namespace, console: Console) -> int:
    from roadwork_core.errors import UsageError
    from roadwork_core.runs.team import is_shared

    if options.processes is not None and (options.processes < 1 or is_shared()):
        raise UsageError(
            "a launcher has started this process as one of several"
            if is_shared()
            else f"--processes {options.processes}: at least one process is needed",
            hint="leave --processes out" if is_shared() else "leave it out for one process",
        )
    if is_shared():
        return _as_one_of_several(options, console)
    if options.shard and (options.processes or 1) == 1:
        raise UsageError("--shard: one process has all weights", hint="add --processes N, or use a launcher")
    if (options.processes or 1) > 1 and not options.dry_run:
        return _launch(options)
    return _alone(options, console)


def _alone(options: argparse.Namespace, console: Console, team: Team | None = None) -> int:
    from roadwork_core.plugins import Plugins
    from roadwork_core.runs import Run
    from roadwork_core.spec import load_spec

    plugins = Plugins.load()
    resolved = load_spec(options.spec, plugins, overrides=options.overrides, unset=options.unset)
    for warning in resolved.warnings if team is None or team.leads else ():
        console.warn(str(warning))
    resolved.require_installed()
    run = Run(name=resolved.spec.name, path=options.runs_dir.absolute() / resolved.spec.name)
    if team is not None and not team.leads:
        _follow(run, resolved, plugins, team)
        return team.code()
    if options.dry_run:
        return _dry_run(run, resolved, plugins, console)
    result = execute(run, resolved, plugins, console, team=team)
    if console.as_json:
        console.json(result)
    else:
        _print(result, console)
    return 0


def _launch(options: argparse.Namespace) -> int:
    """Checks the spec, so that its problems are said once, then starts the processes."""
    from roadwork_core.plugins import Plugins
    from roadwork_core.runs.launch import launch
    from roadwork_core.spec import load_spec

    resolved = load_spec(options.spec, Plugins.load(), overrides=options.overrides, unset=options.unset)
    resolved.require_installed()
    arguments = ["run", str(options.spec), "--runs-dir", str(options.runs_dir)]
    for name, values in (("--set", options.overrides), ("--unset", options.unset)):
        arguments += [f"{name}={value}" for value in values]
    for name in ("shard", "json", "quiet", "verbose", "traceback"):
        if getattr(options, name, False):
            arguments.append(f"--{name}")
    return launch(arguments, options.processes)


def _as_one_of_several(options: argparse.Namespace, console: Console) -> int:
    """The run as one process of several: the first one leads it, and the first one to fail says why."""
    from roadwork_core.errors import ExitCode, RoadworkError
    from roadwork_core.runs.team import is_loss, join, loss_of_another

    team = join()
    try:
        with _terminate_as_interrupt():
            team.connect(shared_weights=options.shard)
            code = _alone(options, console, team)
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
        if team.abandoned or (not team.leads and team.explained()):
            return team.code()
        if team.speaks(code):
            raise
        return team.code()
    except Exception as error:
        lost = is_loss(error)
        if team.abandoned or (lost and team.explained()):
            return team.code()
        code = int(error.exit_code if isinstance(error, RoadworkError) else ExitCode.FAILED)
        if not team.speaks(code):
            return team.code()
        if lost:
            raise loss_of_another() from error
        raise
    if team.leads:
        team.finish(code)
    team.leave()
    return code


def _follow(run: Run, resolved: ResolvedSpec, plugins: Plugins, team: Team) -> None:
    """Takes part in the stages that the leader calls to, without a word."""
    import io

    from roadwork_core.console import Console
    from roadwork_core.runs import take_part

    silent = Console(verbosity=-1, stdout=io.StringIO(), stderr=io.StringIO())
    while (called := team.next_call()) is not None:
        stage, fingerprint = called
        take_part(run, resolved, plugins, silent, stage=stage, fingerprint=fingerprint)


def execute(
    run: Run, resolved: ResolvedSpec, plugins: Plugins, console: Console, *, team: Team | None = None
) -> dict[str, Any]:
    """Carries a run out under its lock and returns the `roadwork.run/1` document.

    Hooks hear of the start and of every end: `status` is ok, failed or interrupted. `team`: the processes that take
    part, where they are several.
    """
    from roadwork_core.runs import RunLock, carry_out
    from roadwork_core.runs.engine import is_finished, stage_metrics, write_run_file

    status, outcomes = "failed", []
    with RunLock(run), _terminate_as_interrupt():
        finished_before = is_finished(run)
        if not finished_before:
            write_run_file(run, resolved, None)
        plugins.hook.roadwork_run_started(run=run)
        try:
            outcomes = carry_out(
                run,
                resolved,
                plugins,
                console,
                before_work=lambda: write_run_file(run, resolved, None),
                call=team.call if team else lambda stage, fingerprint: None,
            )
            status = "ok"
        except KeyboardInterrupt as stop:
            status = "failed" if team and team.abandoned else "interrupted"
            raise KeyboardInterrupt(f"{_interrupted(stop)} ({run.path})") from None
        finally:
            result = _document(run, status, outcomes, stage_metrics(run, "evaluate"))
            # A run in which nothing was to be done keeps its record, with the times that its stages took.
            idle = status == "ok" and all(outcome.outcome == "skipped" for outcome in outcomes)
            if not (idle and finished_before):
                write_run_file(run, resolved, result)
            plugins.hook.roadwork_run_finished(run=run, result=result)
    return result


def _interrupted(stop: KeyboardInterrupt) -> str:
    """One sentence on how far it came, where the stage said so, and on how to go on."""
    if str(stop).endswith(GOES_ON):
        return str(stop)
    return f"interrupted: {stop}; {GOES_ON}" if str(stop) else f"interrupted; {GOES_ON}"


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a run as cleanly as Ctrl-C does."""

    def interrupt(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(f"got {signal.Signals(number).name}")

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _document(run: Run, status: str, outcomes: Sequence[StageOutcome], metrics: Mapping[str, Any]) -> dict[str, Any]:
    bundle = run.folder("bundle") / run.name
    report = run.folder("evaluate") / "report.html"
    finished = status == "ok"
    return {
        "schema": SCHEMA,
        "run_dir": str(run.path),
        "bundle_dir": str(bundle) if finished else None,
        "report": str(report) if finished else None,
        "status": status,
        "stages": [outcome.to_json() for outcome in outcomes],
        "metrics": {"test": metrics.get("test", {})} if finished else {},
    }


def _dry_run(run: Run, resolved: ResolvedSpec, plugins: Plugins, console: Console) -> int:
    from roadwork_core.runs import plan

    outcomes = plan(run, resolved, plugins, console)
    if console.as_json:
        stages = [outcome.to_json() for outcome in outcomes]
        console.json({"schema": SCHEMA, "run_dir": str(run.path), "status": "dry-run", "stages": stages})
        return 0
    console.out(f"run directory  {run.path}")
    for outcome in outcomes:
        console.out(f"{outcome.name:<10} {'would run' if outcome.outcome == 'pending' else 'up to date'}")
    return 0


def _print(result: Mapping[str, Any], console: Console) -> None:
    if all(stage["status"] == "skipped" for stage in result["stages"]):
        console.info("nothing to do: every stage is up to date")
    console.out(f"run      {result['run_dir']}")
    console.out(f"report   {result['report']}")
    console.out(f"bundle   {result['bundle_dir']}")
    test = result["metrics"]["test"]
    for name in HEADLINE:
        if name in test and test[name]["value"] is not None:
            console.out(f"test {name:<9} {with_interval(test[name])}")


def with_interval(figure: Mapping[str, Any]) -> str:
    """A metric with its interval; one group alone has a value and no interval."""
    if figure["low"] is None or figure["high"] is None:
        return f"{figure['value']:.3f}  [no interval]"
    return f"{figure['value']:.3f}  [{figure['low']:.3f}, {figure['high']:.3f}]"
