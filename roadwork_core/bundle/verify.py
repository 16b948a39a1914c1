"""Verification of a bundle at five levels; every failure is reported, nothing outside its folder is touched."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import Factory, define, evolve, field, frozen

from ..backends import NAMES, Backend, onnx_is_installed, resolve
from ..errors import Origin, Problem, RoadworkError, UsageError, VerificationError
from ..extras import how_to_install
from . import schema
from .device import usable_device
from .format import (
    FORMAT_VERSION,
    GOLDEN_EXPECTED,
    GOLDEN_INPUTS,
    MANIFEST,
    MANIFEST_SHAPE,
    MAX_MANIFEST_BYTES,
    MODEL,
    ONNX,
    WEIGHTS,
    Bundle,
    Level,
    bundle_id,
    problems_of,
)
from .inventory import at, compare, read_bytes, survey
from .shape import MISSING, UNKNOWN
from .strict_json import MalformedJson, parse_json

if TYPE_CHECKING:
    from ..inference import Scorer
    from ..plugins import Plugins
    from .runtime import Runtime


@frozen(kw_only=True)
class Verification:
    """What a verification found. `levels` says of each level asked for ok, failed, or skipped (an earlier one
    failed); `bundle` and `runtimes`, by what computes, are there as far as they could be made."""

    path: Path
    levels: dict[Level, str]
    failures: tuple[Problem, ...]
    warnings: tuple[str, ...] = ()
    bundle: Bundle | None = None
    runtimes: Mapping[Backend, Runtime] = Factory(dict)

    @property
    def ok(self) -> bool:
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "roadwork.verify/1",
            "bundle": str(self.path),
            "bundle_id": self.bundle.id if self.bundle else None,
            "ok": self.ok,
            "level": str(list(self.levels)[-1]),
            "backends": sorted(self.runtimes),
            "levels": {str(level): status for level, status in self.levels.items()},
            "failures": [problem.to_json() for problem in self.failures],
            "warnings": list(self.warnings),
        }

    def raise_for_failures(self) -> None:
        """Raises VerificationError with every failure, each with its path below the bundle's."""
        if not self.failures:
            return
        failures = [
            Problem(problem.message, problem.key, _below(self.path, problem.origin), problem.hint)
            for problem in self.failures
        ]
        raise VerificationError(f"{len(failures)} failures", failures, path=self.path)


def _below(path: Path, origin: Origin | None) -> Origin:
    inside = "" if origin is None or origin.source == "." else f"/{origin.source}"
    return Origin(f"{path}{inside}", origin.line if origin else None)


@define
class _Progress:
    """Failures so far, and how each level ended."""

    wanted: Level
    failures: list[Problem] = field(factory=list)
    warnings: list[str] = field(factory=list)
    levels: dict[Level, str] = field(factory=dict)

    def record(self, level: Level, found: Iterable[Problem]) -> None:
        problems = list(found)
        # A file that is missing is so at every level that reads it; it is told once.
        self.failures += [problem for problem in problems if problem not in self.failures]
        self.levels[level] = "failed" if problems else "ok"

    def skip_rest(self) -> None:
        for level in Level:
            if self.wanted.includes(level):
                self.levels.setdefault(level, "skipped")


def verify(
    path: Path | str,
    level: Level | str = Level.REPLAY,
    plugins: Plugins | None = None,
    *,
    device: str = "cpu",
    backend: str | None = None,
    threads: int = 1,
) -> Verification:
    """Checks a bundle up to `level` and reports every failure; a level that needs a sound earlier one is skipped.

    `plugins` are the installed ones by default, loaded where a level needs them. By default everything is loaded and
    replayed that could compute the network, otherwise what `roadwork_core.backends.resolve` makes of `backend`.
    Raises UsageError where `path` does not exist, the device of a level that computes cannot be used or the backend
    cannot be had, and nothing for whatever the folder holds.
    """
    given, progress = Path(path), _Progress(Level(level))
    if not os.path.lexists(given):
        raise UsageError("there is no such bundle", path=given)
    if device != "cpu" and progress.wanted.includes(Level.LOAD):
        device = usable_device(device)
    root = given.resolve()
    bundle = _files_and_schema(root, progress)
    runtimes: Mapping[Backend, Runtime] = {}
    if bundle is not None and not progress.failures:
        backends: tuple[Backend, ...] = ("torch", "onnx") if bundle.carries_onnx else ("torch",)
        if backend is not None:
            backends = (resolve(backend, carries_onnx=bundle.carries_onnx, device=device),)
        if progress.wanted.includes(Level.PLUGINS):
            runtimes = _components(bundle, progress, plugins, device, backends, threads)
    progress.skip_rest()
    return Verification(
        path=given,
        levels={known: progress.levels[known] for known in Level if known in progress.levels},
        failures=tuple(progress.failures),
        warnings=tuple(progress.warnings),
        bundle=bundle,
        runtimes=runtimes,
    )


def _files_and_schema(root: Path, progress: _Progress) -> Bundle | None:
    if not root.is_dir():
        progress.record(Level.FILES, [Problem("is not a folder")])
        return None
    found = survey(root)
    if MANIFEST not in found.files:
        missing = (
            []
            if any(str(p.origin) == MANIFEST for p in found.problems)
            else [Problem("is missing", origin=at(MANIFEST))]
        )
        progress.record(Level.FILES, [*found.problems, *missing])
        return None
    manifest, problems = _read_manifest(root)
    if manifest is None:
        progress.record(Level.FILES, [*problems, *found.problems])
        return None
    progress.record(Level.FILES, [*problems, *compare(root, found, manifest["files"], MANIFEST)])
    if not progress.wanted.includes(Level.SCHEMA):
        return None
    documents, problems = schema.check(root, manifest, set(found.files))
    progress.record(Level.SCHEMA, problems)
    if progress.failures:
        return None
    return Bundle(root, manifest, documents.model, documents.policies)


def _read_manifest(root: Path) -> tuple[Any, list[Problem]]:
    """bundle.json, or None where its shape is wrong; and the problems that it has."""
    origin = at(MANIFEST)
    try:
        content = read_bytes(root, MANIFEST, MAX_MANIFEST_BYTES)
        manifest = parse_json(content)
    except OSError as error:
        return None, [Problem(f"cannot be read: {error.strerror}", origin=origin)]
    except MalformedJson as error:
        return None, [Problem(f"cannot be read: {error}", origin=origin)]
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if type(version) is int and version > FORMAT_VERSION:
        message = f"is of format {version}, which this roadwork does not know"
        return None, [Problem(message, "format_version", origin, hint="use a newer roadwork")]
    if problems := problems_of(MANIFEST_SHAPE, manifest, origin):
        return None, _together(problems, origin)
    from ..files import pretty_json

    if manifest["bundle_id"] != bundle_id(manifest):
        return manifest, [Problem("is not that of this content: the file was edited", "bundle_id", origin)]
    if content != pretty_json(manifest):
        return manifest, [Problem("is not written as roadwork writes it: the file was edited", origin=origin)]
    return manifest, []


def _together(problems: list[Problem], origin: Origin) -> list[Problem]:
    """Missing keys, and unknown ones, each on one line: a file that is no manifest at all is told shortly."""
    rest = [problem for problem in problems if problem.message not in (MISSING, UNKNOWN)]
    for message, verb in ((UNKNOWN, "has keys that this format does not know:"), (MISSING, "lacks")):
        keys = [str(problem.key) for problem in problems if problem.message == message]
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            rest.insert(0, Problem(f"{verb} {', '.join(keys[:3])}{more}", origin=origin))
    return rest


def _components(
    bundle: Bundle,
    progress: _Progress,
    plugins: Plugins | None,
    device: str,
    backends: Iterable[Backend],
    threads: int,
) -> Mapping[Backend, Runtime]:
    from ..plugins import Plugins

    plugins = plugins or Plugins.load()
    progress.record(Level.PLUGINS, _plugin_problems(bundle, plugins, progress.warnings))
    if progress.failures or not progress.wanted.includes(Level.LOAD):
        return {}
    if "onnx" in backends and not onnx_is_installed():
        progress.warnings.append(f"{ONNX} was not tried: ONNX Runtime is not installed ({how_to_install('onnx')})")
        backends = [backend for backend in backends if backend != "onnx"]
    runtimes, problems = _load(bundle, plugins, device, backends, threads)
    progress.record(Level.LOAD, problems)
    if not problems and progress.wanted.includes(Level.REPLAY):
        problems = [found for by, runtime in runtimes.items() for found in _replay(runtime, by)]
        progress.record(Level.REPLAY, [*problems, *_of_one_mind(runtimes)])
    return runtimes


def _plugin_problems(bundle: Bundle, plugins: Plugins, warnings: list[str]) -> list[Problem]:
    from ..spec import resolve_component
    from .runtime import component_parts

    problems: list[Problem] = []
    for kind, document, part in component_parts(bundle):
        resolve = partial(resolve_component, kind, {"use": part["use"], **part["options"]}, plugins)
        problems += _guarded(resolve, document)[1]
    hooked, found = _guarded(lambda: plugins.hook.roadwork_bundle_check(bundle=bundle), MANIFEST)
    problems += found
    problems += [problem for answer in hooked or () for problem in answer or ()]
    installed = {record.name: record.version for record in plugins.records}
    for name, used in bundle.manifest["provenance"]["plugins"].items():
        if name in installed and installed[name] != used["version"]:
            warnings.append(f"made with {used['distribution']} {used['version']}, {installed[name]} is installed")
    return problems


def _load(
    bundle: Bundle, plugins: Plugins, device: str, backends: Iterable[Backend], threads: int
) -> tuple[Mapping[Backend, Runtime], list[Problem]]:
    from .runtime import Runtime, make_decider

    decider = make_decider(bundle, plugins)
    problems = [
        Problem(f"cannot be restored: {reason}", origin=at(f"policies/{name}.json"))
        for name, reason in decider.broken.items()
    ]
    runtimes: dict[Backend, Runtime] = {}
    for backend in backends:
        scorer, found = _onnx(bundle, plugins, threads) if backend == "onnx" else _torch(bundle, plugins, device)
        problems += found
        if scorer is not None:
            runtimes[backend] = Runtime(bundle=bundle, scorer=scorer, decider=decider)
    return runtimes, problems


def _torch(bundle: Bundle, plugins: Plugins, device: str) -> tuple[Scorer | None, list[Problem]]:
    from .runtime import load_weights_into, untrained_scorer, weight_problems

    scorer, problems = _guarded(lambda: untrained_scorer(bundle.model, plugins, device=device), MODEL)
    if scorer is None:
        return None, problems
    _, problems = _guarded(lambda: load_weights_into(scorer, bundle.path / WEIGHTS), WEIGHTS)
    if problems:
        return None, problems
    return scorer, weight_problems(scorer)


def _onnx(bundle: Bundle, plugins: Plugins, threads: int) -> tuple[Scorer | None, list[Problem]]:
    from .runtime import make_onnx_scorer

    return _guarded(lambda: make_onnx_scorer(bundle, plugins, threads=threads), ONNX)


def _replay(runtime: Runtime, backend: Backend) -> list[Problem]:
    from .golden import read_pictures, replay

    bundle = runtime.bundle
    golden, problem = schema.read_document(bundle.path, GOLDEN_EXPECTED)
    if problem is not None:
        return [problem]
    result, problems = _guarded(
        lambda: replay(
            golden, read_pictures(bundle.path / GOLDEN_INPUTS), runtime.scorer, runtime.decider, bundle.labels
        ),
        GOLDEN_EXPECTED,
    )
    found = [*(result or []), *problems]
    if backend == "torch":
        return found
    return [evolve(problem, message=f"with {NAMES[backend]}, {problem.message}", origin=at(ONNX)) for problem in found]


def _of_one_mind(runtimes: Mapping[Backend, Runtime]) -> list[Problem]:
    """That both networks give the same logits of noise as well, which nobody chose."""
    if not {"torch", "onnx"} <= runtimes.keys() or runtimes["torch"].scorer.device.type != "cpu":
        return []
    import torch

    from .golden import TOLERANCE
    from .onnx_network import difference

    problems = []
    for height, width in runtimes["onnx"].bundle.model["onnx"]["sizes"]:
        noise = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
        (expected, _), (actual, _) = (runtimes[by].scorer.network(noise) for by in ("torch", "onnx"))
        if (found := difference(expected, actual)) > TOLERANCE:
            text = f"on noise of {height} x {width} its logits are {found:.3g} from those of the weights"
            problems.append(Problem(text, origin=at(ONNX)))
    return problems


def _guarded(action: Callable[[], Any], document: str) -> tuple[Any, list[Problem]]:
    """The action's result, or None and what it raised as problems of a document: plugins may fail in any way."""
    try:
        return action(), []
    except VerificationError as error:
        return None, list(error.problems())
    except RoadworkError as error:
        return None, [Problem(found.message, found.key, at(document), found.hint) for found in error.problems()]
    except Exception as error:  # noqa: BLE001 - a stranger's document in a plugin's hands; the cause is reported
        text = " ".join(str(error).split()) or "no message"
        return None, [Problem(f"cannot be used: {type(error).__name__}: {text}", origin=at(document))]
