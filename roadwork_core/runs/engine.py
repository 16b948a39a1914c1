"""Carries out the stages of a run, each only where its fingerprint changed, and keeps what is finished safe."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from roadwork_core.console import Console, duration
from roadwork_core.errors import RoadworkError
from roadwork_core.files import pretty_json, sync_directory, write_atomic
from roadwork_core.plugins import Plugins
from roadwork_core.stages import STAGES, Stage

from .context import StageContext
from .directory import Run, RunLock
from .fingerprint import (
    components_in,
    fingerprint,
    git_state,
    library_versions,
    outside_state,
    plugin_versions,
    spec_part,
)
from .manifest import StageManifest, digest_outputs

if TYPE_CHECKING:
    from roadwork_core.spec import ResolvedSpec, Spec


RUN_FILE = "run.json"
#: In a scratch: the fingerprint of the stage that it belongs to.
MARK = "fingerprint"


class Outcome(StrEnum):
    """How a stage ended, or would."""

    RAN = "ran"
    SKIPPED = "skipped"
    FAILED = "failed"
    PENDING = "pending"


@frozen(kw_only=True)
class StageOutcome:
    name: str
    outcome: Outcome
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "status": str(self.outcome), "seconds": round(self.seconds, 3)}


@frozen(kw_only=True)
class _Prepared:
    stage: Stage
    context: StageContext
    inputs: Mapping[str, str]
    versions: Mapping[str, str]
    fingerprint: str


def plan(run: Run, resolved: ResolvedSpec, plugins: Plugins, console: Console) -> list[StageOutcome]:
    """Which stages a run would carry out (`pending`) and which it would skip, without doing anything.

    After the first pending stage all later ones are pending: their inputs are not known yet.
    """
    outcomes = []
    pending = False
    for stage in _wanted(resolved):
        if not pending:
            pending = not _is_current(run, _prepare(stage, run, resolved, plugins, console))
        outcomes.append(StageOutcome(name=stage.name, outcome=Outcome.PENDING if pending else Outcome.SKIPPED))
    return outcomes


def carry_out(
    run: Run,
    resolved: ResolvedSpec,
    plugins: Plugins,
    console: Console,
    *,
    before_work: Callable[[], None] = lambda: None,
    call: Callable[[str, str], None] = lambda stage, fingerprint: None,
) -> list[StageOutcome]:
    """Carries out or skips every stage, in order. The caller holds the run's lock.

    `before_work` is called before the first stage that is not skipped, `call` with the name and the fingerprint of a
    stage in which other processes take part, when it begins. Whatever a stage raises passes through; the stages
    finished before stay finished.
    """
    outcomes: list[StageOutcome] = []
    for stage in _wanted(resolved):
        _recover(run, stage.name)
        prepared = _prepare(stage, run, resolved, plugins, console)
        if _is_current(run, prepared):
            _clean(prepared)
            console.info(f"{stage.name}: up to date")
            outcomes.append(StageOutcome(name=stage.name, outcome=Outcome.SKIPPED))
            continue
        if all(earlier.outcome is Outcome.SKIPPED for earlier in outcomes):
            before_work()
        if (damaged := _damaged(run, prepared)) is not None:
            console.warn(f"{stage.name}: {damaged} is not as it was written; the stage runs again")
        started = time.monotonic()
        _run_stage(prepared, console, call)
        seconds = time.monotonic() - started
        console.info(f"{stage.name}: done in {duration(seconds)}")
        outcomes.append(StageOutcome(name=stage.name, outcome=Outcome.RAN, seconds=seconds))
    return outcomes


def take_part(
    run: Run, resolved: ResolvedSpec, plugins: Plugins, console: Console, *, stage: str, fingerprint: str
) -> None:
    """Carries out a stage that another process leads; nothing is written here.

    Raises RoadworkError where this process would do something else than the leader.
    """
    [wanted] = [one for one in _wanted(resolved) if one.name == stage]
    prepared = _prepare(wanted, run, resolved, plugins, console)
    if prepared.fingerprint != fingerprint:
        raise RoadworkError(
            f"this process has other inputs for the stage {stage} than the one that leads the run",
            path=run.path,
            hint="several machines need the same spec, versions and files, and one runs directory that all of them see",
        )
    wanted.run(prepared.context)


def stage_metrics(run: Run, stage: str) -> Mapping[str, Any]:
    """What a finished stage measured, empty where it is not finished."""
    manifest = StageManifest.read(run.folder(stage))
    return manifest.metrics if manifest else {}


def is_finished(run: Run) -> bool:
    """Whether the last run in this directory came to a good end, by its `run.json`."""
    try:
        result = json.loads((run.path / RUN_FILE).read_bytes())["result"]
        return bool(result["status"] == "ok")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_run_file(run: Run, resolved: ResolvedSpec, result: Mapping[str, Any] | None) -> None:
    """`run.json`: what `runs list` shows; the spec as resolved goes beside it."""
    from roadwork_core.spec import dump_toml

    run.path.mkdir(parents=True, exist_ok=True)
    write_atomic(run.path / "spec.toml", dump_toml(resolved.values).encode())
    document = {"schema": "roadwork.run-directory/1", "name": run.name, "result": result}
    write_atomic(run.path / RUN_FILE, pretty_json(document))


def mark_pruned(run: Run, *, epoch: int, metric: str, value: float) -> None:
    """Says in `run.json` that a sweep ended this run as hopeless, and drops its checkpoint: nobody goes on from it.

    Raises RunLockedError where a process still works on it.
    """
    with RunLock(run):
        try:
            before = json.loads((run.path / RUN_FILE).read_bytes())
        except (OSError, ValueError):
            before = {}
        result = {
            "schema": "roadwork.run/1",
            "run_dir": str(run.path),
            "stages": [],
            **(before.get("result") or {}),
            "status": "pruned",
            "pruned": {"epoch": epoch, "metric": metric, "value": value},
        }
        document = {"schema": "roadwork.run-directory/1", "name": run.name, "result": result}
        write_atomic(run.path / RUN_FILE, pretty_json(document))
        _remove(run.scratch("train"))
        _remove(run.fresh("train"))


def _wanted(resolved: ResolvedSpec) -> list[Stage]:
    return [stage for stage in STAGES if stage.wanted(resolved.spec)]


def _prepare(stage: Stage, run: Run, resolved: ResolvedSpec, plugins: Plugins, console: Console) -> _Prepared:
    wanted = {other.name for other in _wanted(resolved)}
    reads = tuple(pattern for pattern in stage.reads if pattern.split("/", 1)[0] in wanted)
    context = StageContext(
        stage=stage.name,
        run=run,
        resolved=resolved,
        plugins=plugins,
        console=console,
        folder=run.fresh(stage.name),
        scratch=run.scratch(stage.name),
        reads=reads,
    )
    components = list(components_in([_part(resolved.spec, key) for key in stage.spec_keys]))
    inputs = _input_digests(run, reads)
    versions = plugin_versions(components, plugins)
    digest = fingerprint(
        stage=stage.name,
        part=spec_part(resolved.values, stage.spec_keys),
        inputs=inputs,
        versions=versions,
        outside={"components": outside_state(components), "stage": stage.outside(context)},
    )
    return _Prepared(stage=stage, context=context, inputs=inputs, versions=versions, fingerprint=digest)


def _part(spec: Spec, key: str) -> Any:
    """What the spec has at a dotted key; None below a table that it lacks."""
    found: Any = spec
    for name in key.split("."):
        found = getattr(found, name, None)
    return found


def _input_digests(run: Run, reads: Sequence[str]) -> dict[str, str]:
    digests = {}
    for earlier in dict.fromkeys(pattern.split("/", 1)[0] for pattern in reads):
        manifest = StageManifest.read(run.folder(earlier))
        for name, output in (manifest.outputs if manifest else {}).items():
            if any(fnmatchcase(f"{earlier}/{name}", pattern) for pattern in reads):
                digests[f"{earlier}/{name}"] = output["sha256"]
    return digests


def _is_current(run: Run, prepared: _Prepared) -> bool:
    folder = run.folder(prepared.stage.name)
    manifest = StageManifest.read(folder)
    return manifest is not None and manifest.fingerprint == prepared.fingerprint and manifest.intact(folder)


def _damaged(run: Run, prepared: _Prepared) -> str | None:
    """The first output of a stage, otherwise up to date, that is missing or has other bytes than were written."""
    folder = run.folder(prepared.stage.name)
    manifest = StageManifest.read(folder)
    return manifest.damaged(folder) if manifest and manifest.fingerprint == prepared.fingerprint else None


def _run_stage(prepared: _Prepared, console: Console, call: Callable[[str, str], None]) -> None:
    context, name = prepared.context, prepared.stage.name
    _remove(context.folder)
    context.folder.mkdir(parents=True)
    _claim_scratch(context.scratch, prepared.fingerprint)
    started = datetime.now(UTC)
    clock = time.monotonic()
    console.detail(f"{name}: fingerprint {prepared.fingerprint[:12]}")
    if prepared.stage.shared:
        call(name, prepared.fingerprint)
    metrics = prepared.stage.run(context)
    manifest = StageManifest(
        stage=name,
        fingerprint=prepared.fingerprint,
        inputs=prepared.inputs,
        outputs=digest_outputs(context.folder),
        metrics=json.loads(json.dumps(metrics, allow_nan=False)),
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - clock, 3),
        versions={**library_versions(), **prepared.versions},
        git=git_state(),
    )
    manifest.write(context.folder)
    _replace(context.folder, context.run.folder(name))
    _remove(context.scratch)


def _claim_scratch(scratch: Path, digest: str) -> None:
    mark = scratch / MARK
    if not mark.is_file() or mark.read_text() != digest:
        _remove(scratch)
        scratch.mkdir(parents=True)
        write_atomic(mark, digest.encode())


def _replace(fresh: Path, folder: Path) -> None:
    old = folder.with_name(f".{folder.name}.old")
    _remove(old)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    sync_directory(folder.parent)
    _remove(old)


def _recover(run: Run, stage: str) -> None:
    """Finishes a replacement that a kill interrupted between its two renames."""
    folder, fresh, old = run.folder(stage), run.fresh(stage), run.path / f".{stage}.old"
    if folder.exists():
        _remove(old)
    elif StageManifest.read(fresh) is not None:
        fresh.rename(folder)
    elif old.exists():
        old.rename(folder)


def _clean(prepared: _Prepared) -> None:
    """Removes what a finished stage left where a kill interrupted the removal. The scratch of another fingerprint
    stays: whoever goes back to that spec resumes from it."""
    _remove(prepared.context.folder)
    mark = prepared.context.scratch / MARK
    if not mark.is_file() or mark.read_text() == prepared.fingerprint:
        _remove(prepared.context.scratch)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def names(outcomes: Sequence[StageOutcome], outcome: Outcome) -> list[str]:
    """Names of the stages with this outcome."""
    return [item.name for item in outcomes if item.outcome is outcome]
