"""`roadwork sweep`: many runs from one spec, and which of them val_select prefers."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .run import _terminate_as_interrupt, add_override_options, with_interval

if TYPE_CHECKING:
    from roadwork_core.console import Console
    from roadwork_core.plugins import Plugins
    from roadwork_core.spec import ResolvedSpec
    from roadwork_core.sweeps import Ending, Engine, Result, Trial

SCHEMA = "roadwork.sweep/1"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", type=Path, metavar="SPEC", help="a spec with a table [sweep]")
    add_override_options(parser)
    parser.add_argument(
        "--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="where runs are kept (default: runs)"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="trials at a time, each a process (default: 1)"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say which trials there are and which are done, and stop"
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON document")


def handle(options: argparse.Namespace, console: Console) -> int:
    from roadwork_core.errors import UsageError
    from roadwork_core.plugins import Plugins
    from roadwork_core.runs import Run, RunLock
    from roadwork_core.spec import load_spec
    from roadwork_core.sweeps import Engine, trials_of

    if options.jobs < 1:
        raise UsageError(f"--jobs {options.jobs}: at least one trial at a time is needed")
    plugins = Plugins.load()
    resolved = load_spec(options.spec, plugins, overrides=options.overrides, unset=options.unset)
    for warning in resolved.warnings:
        console.warn(str(warning))
    trials = trials_of(options.spec, resolved, plugins, overrides=options.overrides, unset=options.unset)
    runs_dir = options.runs_dir.absolute()
    name = f"{resolved.spec.name}-sweep"
    engine = Engine(folder=runs_dir / name, runs_dir=runs_dir, jobs=options.jobs, tell=console.info)
    if options.dry_run:
        return _dry_run(trials, engine, plugins, console)
    with RunLock(Run(name=name, path=engine.folder)), _terminate_as_interrupt():
        try:
            document, code = _carry_out(trials, resolved, engine, plugins, console)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted; the same command goes on from here ({engine.folder})") from None
    if console.as_json:
        console.json(document)
    else:
        _print(document, console)
    return code


def _carry_out(
    trials: Sequence[Trial], resolved: ResolvedSpec, engine: Engine, plugins: Plugins, console: Console
) -> tuple[dict[str, Any], int]:
    from roadwork_core.files import pretty_json, write_atomic
    from roadwork_core.sweeps import Result, compare_trials
    from roadwork_core.sweeps.engine import exit_code
    from roadwork_core.sweeps.report import render

    done = {trial.name for trial in trials if _is_done(trial, engine, plugins)}
    asked = resolved.values["sweep"]["trials"]
    if asked is not None and len(trials) < asked:
        console.info(f"there are no more than {len(trials)} different trials, so not {asked}")
    console.info(f"{len(trials)} trials, {len(done)} finished before, {engine.jobs} at a time")
    engine.on_end = lambda ending: _tell(ending, console)
    endings = {end.trial.name: end for end in engine.carry_out([t for t in trials if t.name not in done])}
    results = []
    for trial in trials:
        ending = endings.get(trial.name)
        results.append(
            Result(
                name=trial.name,
                run_dir=str(engine.run_of(trial).path),
                parameters=trial.parameters,
                code=ending.code if ending else 0,
                error=ending.error if ending else None,
            )
        )
    spec = resolved.spec
    results, best = compare_trials(
        results, spec.train.select_by, resamples=spec.evaluate.bootstrap, level=spec.evaluate.level, seed=spec.seed
    )
    document = _document(results, best, resolved, engine)
    write_atomic(engine.folder / "sweep.json", pretty_json(document))
    parameters = spec.sweep.parameters if spec.sweep else {}
    logarithmic = [key for key, parameter in parameters.items() if parameter.log]
    write_atomic(engine.folder / "report.html", render(document, logarithmic).encode())
    return document, exit_code([result.code for result in results])


def _is_done(trial: Trial, engine: Engine, plugins: Plugins) -> bool:
    """Whether its run came to a good end and `roadwork run` would do nothing."""
    import io

    from roadwork_core.console import Console
    from roadwork_core.runs import Outcome, plan
    from roadwork_core.runs.engine import is_finished
    from roadwork_core.spec import load_spec

    run = engine.run_of(trial)
    if not is_finished(run):
        return False
    silent = Console(verbosity=-1, stdout=io.StringIO(), stderr=io.StringIO())
    outcomes = plan(run, load_spec(engine.spec_file(trial), plugins), plugins, silent)
    return all(outcome.outcome is Outcome.SKIPPED for outcome in outcomes)


def _tell(ending: Ending, console: Console) -> None:
    from roadwork_core.console import duration

    if ending.code == 0:
        console.info(f"{ending.trial.name}: finished in {duration(ending.seconds)}")
    else:
        console.warn(f"{ending.trial.name} failed with exit code {ending.code}: {ending.error}")


def _document(results: Sequence[Result], best: Result | None, resolved: ResolvedSpec, engine: Engine) -> dict[str, Any]:
    from roadwork_core.sweeps.results import importance, metrics_on_test
    from roadwork_core.training.selection import LOWER_IS_BETTER

    spec, sweep = resolved.spec, resolved.values["sweep"]
    if sweep["method"] == "grid":
        shares, note = importance(results)
    else:
        shares, note = None, "Not computed: trials drawn at random do not tell effects apart; a grid does."
    return {
        "schema": SCHEMA,
        "name": spec.name,
        "method": sweep["method"],
        "metric": spec.train.select_by,
        "lower_is_better": spec.train.select_by in LOWER_IS_BETTER,
        "level": spec.evaluate.level,
        "parameters": list(sweep["parameters"]),
        "trials": [result.to_json() for result in results],
        "best": {**best.to_json(), "test": metrics_on_test(best)} if best else None,
        "importance": shares,
        "importance_note": note,
        "report": str(engine.folder / "report.html"),
    }


def _dry_run(trials: Sequence[Trial], engine: Engine, plugins: Plugins, console: Console) -> int:
    states = {trial.name: _is_done(trial, engine, plugins) for trial in trials}
    if console.as_json:
        rows = [
            {
                "name": trial.name,
                "parameters": dict(trial.parameters),
                "status": "finished" if states[trial.name] else "pending",
            }
            for trial in trials
        ]
        console.json({"schema": SCHEMA, "status": "dry-run", "trials": rows})
        return 0
    for trial in trials:
        console.out(
            f"{trial.name}  {'finished' if states[trial.name] else 'pending':<8}  {_settings(trial.parameters)}"
        )
    return 0


def _settings(parameters: Mapping[str, Any]) -> str:
    from roadwork_core.spec.dump import toml_value

    return "  ".join(f"{key}={toml_value(value)}" for key, value in parameters.items())


def _print(document: Mapping[str, Any], console: Console) -> None:
    sign = 1 if document["lower_is_better"] else -1
    finished = [trial for trial in document["trials"] if trial["val_select"]]
    for trial in sorted(finished, key=lambda trial: sign * trial["val_select"]["value"]):
        console.out(f"{trial['name']}  {with_interval(trial['val_select'])}  {_settings(trial['parameters'])}")
    for trial in document["trials"]:
        if not trial["val_select"]:
            console.out(f"{trial['name']}  failed ({trial['exit_code']}): {trial['error']}")
    console.out(f"report   {document['report']}")
    best = document["best"]
    if best is None:
        return
    console.out(f"best     {best['run_dir']}  ({document['metric']} on val_select {with_interval(best['val_select'])})")
    mcc = best["test"].get("mcc")
    if mcc and mcc["value"] is not None:
        console.out(f"test mcc {with_interval(mcc)}  (of the best alone)")
