"""The seven hooks that a plugin may implement; none is called per batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import argparse

    from .bundle import Bundle
    from .errors import Problem
    from .runs import Run
    from .spec import Spec

PROJECT = "roadwork"
hookspec = pluggy.HookspecMarker(PROJECT)
#: Marks a function of a plugin as an implementation of the hook of the same name.
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def roadwork_components() -> Sequence[type]:  # type: ignore[empty-body]
    """Hands over the component classes of this plugin. Called once, at load; must not import torch."""


@hookspec
def roadwork_spec_resolved(spec: Spec) -> Sequence[Problem] | None:
    """Looks at a spec that checked without errors; returned problems are reported like the checker's own."""


@hookspec
def roadwork_run_started(run: Run) -> None:
    """A run holds its directory and is about to begin its first stage."""


@hookspec
def roadwork_epoch_finished(run: Run, metrics: Mapping[str, Any]) -> None:
    """An epoch of training ended; `metrics` is its line of the training history."""


@hookspec
def roadwork_run_finished(run: Run, result: Mapping[str, Any]) -> None:
    """A run ended; `result` is the document that `run --json` prints, with `status` ok, failed or interrupted."""


@hookspec
def roadwork_bundle_check(bundle: Bundle) -> Sequence[Problem] | None:
    """Looks at a bundle during verification (level plugins and up); returned problems fail it."""


@hookspec
def roadwork_commands(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Adds commands: `parser = subparsers.add_parser(...)`, then `parser.set_defaults(handler=...)` where
    `handler(args, console) -> int` returns the exit code."""
