"""`roadwork sweep`: many runs from one spec, and which of them val_select prefers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .run import _terminate_as_interrupt, add_override_options, with_interval

if TYPE_CHECKING:
    from roadwork_core.console import Console
    from roadwork_core.plugins import Plugins
    from roadwork_core.spec import ResolvedSpec
    from roadwork_core.spec.model import Sweep
    from roadwork_core.sweeps import Ending, Engine, Result, Search, Trial

SCHEMA = "roadwork.sweep/1"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", type=Path, metavar="SPEC", help="a spec with a table [sweep]")
    add_override_options(parser)
    parser.add_argument(
        "--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="where runs are kept (default: runs)"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=None,
        metavar="N",
        help="trials at a time, each a process (default: 1; with Ray as many as its machines hold)",
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="where trials are carried out: on this machine, or on the Ray cluster at RAY_ADDRESS (default: local)",
    )
    parser.add_argument(
        "--trial-cpus", type=float, default=None, metavar="N", help="ray: CPUs that a trial takes (default: 1)"
    )
    parser.add_argument(
        "--trial-gpus",
        type=float,
        default=None,
        metavar="N",
        help="ray: GPUs that a trial takes, also a part of one (default: 1 where the cluster has any)",
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
    from roadwork_core.sweeps import Engine

    if options.jobs is not None and options.jobs < 1:
        raise UsageError(f"--jobs {options.jobs}: at least one trial at a time is needed")
    needs = {"--trial-cpus": options.trial_cpus, "--trial-gpus": options.trial_gpus}
    for name, value in needs.items():
        if value is not None and (options.engine == "local" or not 0 <= value < 1e6):
            raise UsageError(f"{name} {value:g}: is for --engine ray, and not below 0")
    if options.engine == "ray":
        from roadwork_core.ray_cluster import require_ray

        require_ray()
    plugins = Plugins.load()
    resolved = load_spec(options.spec, plugins, overrides=options.overrides, unset=options.unset)
    for warning in resolved.warnings:
        console.warn(str(warning))
    resolved.require_installed(also=("sweep",))
    runs_dir = options.runs_dir.absolute()
    name = f"{resolved.spec.name}-sweep"
    engine = Engine(folder=runs_dir / name, runs_dir=runs_dir, jobs=options.jobs or 1, tell=console.info)
    search = _search(options, resolved, engine, plugins, console)
    if options.dry_run:
        return _dry_run(search, console)
    with RunLock(Run(name=name, path=engine.folder)), _terminate_as_interrupt():
        try:
            with _places(options, engine):
                document, code = _carry_out(search, resolved, engine, console)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted; the same command goes on from here ({engine.folder})") from None
    if console.as_json:
        console.json(document)
    else:
        _print(document, console)
    return code


@contextmanager
def _places(options: argparse.Namespace, engine: Engine) -> Iterator[None]:
    """Within it the engine starts its trials where they are to be carried out."""
    if options.engine == "local":
        yield
        return
    from roadwork_core.ray_cluster import connected, needs_of, room_for
    from roadwork_core.sweeps.ray_tasks import RayStarter

    with connected() as ray:
        needs = needs_of(ray, options.trial_cpus, options.trial_gpus)
        room = room_for(ray, needs)
        engine.jobs = room if options.jobs is None else min(options.jobs, room)
        engine.start = RayStarter(ray, needs)
        yield


def _search(
    options: argparse.Namespace, resolved: ResolvedSpec, engine: Engine, plugins: Plugins, console: Console
) -> Search:
    from functools import partial

    from roadwork_core.sweeps import FixedSearch, trials_of
    from roadwork_core.sweeps.space import integer_keys, make_trial

    given = {"overrides": options.overrides, "unset": options.unset}
    sweep, is_done = resolved.spec.sweep, partial(_is_done, engine=engine, plugins=plugins)
    if sweep is None or sweep.method != "tpe":
        trials = trials_of(options.spec, resolved, plugins, **given)
        distributions = None
        if sweep is not None and sweep.method == "random":
            if sweep.trials is not None and len(trials) < sweep.trials:
                console.info(f"there are no more than {len(trials)} different trials, so not {sweep.trials}")
            integers = integer_keys(options.spec, sweep.parameters, plugins, **given)
            distributions = partial(_distributions, sweep, integers)
        return FixedSearch(all=trials, is_done=is_done, distributions=distributions)

    from roadwork_core.sweeps.results import figure_of
    from roadwork_core.sweeps.study import FILE, Study
    from roadwork_core.sweeps.tpe import TpeSearch, made_for
    from roadwork_core.training.selection import LOWER_IS_BETTER

    metric = resolved.spec.train.select_by
    kept = Study(
        None if options.dry_run and not (engine.folder / FILE).exists() else engine.folder,
        name=engine.folder.name,
        maximise=metric not in LOWER_IS_BETTER,
        made_for=made_for(resolved.values),
    )
    return TpeSearch(
        name=resolved.spec.name,
        sweep=sweep,
        integers=integer_keys(options.spec, sweep.parameters, plugins, **given),
        metric=metric,
        study=kept,
        make=partial(make_trial, options.spec, resolved, plugins, **given),
        figure=lambda run: figure_of(run, metric),
        is_done=is_done,
        has_these_data=partial(_has_these_data, engine=engine, plugins=plugins),
        run_of=engine.run_named,
        warn=console.warn,
    )


def _distributions(sweep: Sweep, integers: Mapping[str, bool]) -> Mapping[str, Any]:
    from roadwork_core.sweeps.tpe import distributions_of

    return distributions_of(sweep, integers)


def _carry_out(search: Search, resolved: ResolvedSpec, engine: Engine, console: Console) -> tuple[dict[str, Any], int]:
    from roadwork_core.files import pretty_json, write_atomic
    from roadwork_core.runs.engine import mark_pruned
    from roadwork_core.sweeps import compare_trials
    from roadwork_core.sweeps.engine import exit_code
    from roadwork_core.sweeps.report import render

    spec = resolved.spec
    known, undrawn = search.known(), search.undrawn()
    before = sum(trial.status in ("finished", "pruned") for trial in known)
    console.info(f"{len(known) + undrawn} trials, {before} finished before, {engine.jobs} at a time")

    def ended(ending: Ending) -> None:
        _tell(ending, console)
        if ending.stop is not None:
            run = engine.run_of(ending.trial)
            mark_pruned(run, epoch=ending.stop.epoch, metric=spec.train.select_by, value=ending.stop.value)
        search.ended(ending)

    engine.on_end, engine.hopeless = ended, search.hopeless
    engine.carry_out(search.trials())
    if left := search.undrawn():
        console.info(f"there are no more different trials to be found, so {left} fewer than asked for")
    results = search.results(lambda name: str(engine.run_named(name).path))
    results, best = compare_trials(
        results, spec.train.select_by, resamples=spec.evaluate.bootstrap, level=spec.evaluate.level, seed=spec.seed
    )
    document = _document(search, results, best, resolved, engine)
    write_atomic(engine.folder / "sweep.json", pretty_json(document))
    parameters = spec.sweep.parameters if spec.sweep else {}
    logarithmic = [key for key, parameter in parameters.items() if parameter.log]
    write_atomic(engine.folder / "report.html", render(document, logarithmic).encode())
    return document, exit_code([0 if result.pruned else result.code for result in results])


def _is_done(trial: Trial, engine: Engine, plugins: Plugins) -> bool:
    """Whether its run came to a good end and `roadwork run` would do nothing."""
    from roadwork_core.runs.engine import is_finished

    return is_finished(engine.run_of(trial)) and all(_up_to_date(trial, engine, plugins).values())


def _has_these_data(trial: Trial, engine: Engine, plugins: Plugins) -> bool:
    """Whether its run has prepared the data as they are now."""
    return _up_to_date(trial, engine, plugins)["prepare"]


def _up_to_date(trial: Trial, engine: Engine, plugins: Plugins) -> dict[str, bool]:
    """By stage, whether `roadwork run` would leave it as it is."""
    import io

    from roadwork_core.console import Console
    from roadwork_core.runs import Outcome, plan
    from roadwork_core.spec import load_spec

    silent = Console(verbosity=-1, stdout=io.StringIO(), stderr=io.StringIO())
    outcomes = plan(engine.run_of(trial), load_spec(engine.spec_file(trial), plugins), plugins, silent)
    return {outcome.name: outcome.outcome is Outcome.SKIPPED for outcome in outcomes}


def _tell(ending: Ending, console: Console) -> None:
    from roadwork_core.console import duration

    if ending.code == 0:
        console.info(f"{ending.trial.name}: finished in {duration(ending.seconds)}")
    elif ending.stop is not None:
        console.info(f"{ending.trial.name}: pruned after epoch {ending.stop.epoch}, at {ending.stop.value:.3f}")
    else:
        console.warn(f"{ending.trial.name} failed with exit code {ending.code}: {ending.error}")


def _document(
    search: Search, results: Sequence[Result], best: Result | None, resolved: ResolvedSpec, engine: Engine
) -> dict[str, Any]:
    from roadwork_core.sweeps.results import metrics_on_test
    from roadwork_core.training.selection import LOWER_IS_BETTER

    spec, sweep = resolved.spec, resolved.values["sweep"]
    shares, note = search.importance(results)
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


def _dry_run(search: Search, console: Console) -> int:
    known, undrawn = search.known(), search.undrawn()
    if console.as_json:
        rows = [{"name": trial.name, "parameters": dict(trial.parameters), "status": trial.status} for trial in known]
        console.json({"schema": SCHEMA, "status": "dry-run", "trials": rows, "undrawn": undrawn})
        return 0
    for trial in known:
        console.out(f"{trial.name}  {trial.status:<8}  {_settings(trial.parameters)}")
    if undrawn:
        console.out(f"{undrawn} to be drawn, each from the figures of those before it")
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
        if trial["pruned"]:
            end = trial["pruned"]
            console.out(f"{trial['name']}  pruned after epoch {end['epoch']}  {_settings(trial['parameters'])}")
        elif not trial["val_select"]:
            console.out(f"{trial['name']}  failed ({trial['exit_code']}): {trial['error']}")
    console.out(f"report   {document['report']}")
    best = document["best"]
    if best is None:
        return
    console.out(f"best     {best['run_dir']}  ({document['metric']} on val_select {with_interval(best['val_select'])})")
    mcc = best["test"].get("mcc")
    if mcc and mcc["value"] is not None:
        console.out(f"test mcc {with_interval(mcc)}  (of the best alone)")
