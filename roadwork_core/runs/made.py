"""Which run made a bundle, wherever a copy of that bundle is served now."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path


def run_of(bundle: Path, runs_dir: Path) -> Path | None:
    """The run that `bundle` lies in, else the one in `runs_dir` that made a bundle of the same id, or None."""
    identity = _id(bundle)
    if identity is None:
        return None
    return next((run for run, made in _candidates(bundle, runs_dir) if _id(made) == identity), None)


def _candidates(bundle: Path, runs_dir: Path) -> Iterator[tuple[Path, Path]]:
    place = bundle.resolve()
    if place.parent.name == "bundle":
        yield place.parent.parent, place
    for file in sorted(runs_dir.glob("*/bundle/*/bundle.json")):
        yield file.parents[2], file.parent


def _id(bundle: Path) -> str | None:
    try:
        document = json.loads((bundle / "bundle.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    found = document.get("bundle_id") if isinstance(document, dict) else None
    return found if isinstance(found, str) else None
