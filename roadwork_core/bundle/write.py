"""Emission of a bundle: written beside its place, verified there by replay, and only then put into place."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import Factory, frozen

from ..errors import RoadworkError
from ..files import pretty_json, sha256_file, sync_directory, sync_tree
from . import format as fmt
from .verify import Verification, verify

if TYPE_CHECKING:
    from ..plugins import Plugins


@frozen(kw_only=True)
class Contents:
    """All that goes into a bundle.

    `manifest` holds the keys of bundle.json but `format_version`, `bundle_id`, `files`, `policies`, `mode` and `modes`,
    which follow from the rest. `modes_of` gives each policy's deployment mode. `weights` is a file that is copied.
    `extra` are further files (path in the bundle to content).
    """

    manifest: Mapping[str, Any]
    model: Mapping[str, Any]
    weights: Path
    policies: Mapping[str, Mapping[str, Any]]
    modes_of: Mapping[str, str]
    golden_inputs: bytes
    golden_expected: Mapping[str, Any]
    spec: str
    card: str
    license: str
    extra: Mapping[str, bytes] = Factory(dict)


def emit(contents: Contents, target: Path, plugins: Plugins) -> Verification:
    """Writes the bundle to `target`, which must not exist, after it has passed verification at `replay`.

    The same contents give the same bytes. Raises VerificationError where the bundle does not do what it should; then
    nothing is left at `target` or beside it.
    """
    if target.exists():
        raise RoadworkError("a bundle would be overwritten", path=target, hint="remove it first")
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.new")
    _remove(fresh)
    try:
        _write(contents, fresh)
        found = verify(fresh, fmt.Level.REPLAY, plugins)
        found.raise_for_failures()
        sync_tree(fresh)
        fresh.rename(target)
        sync_directory(target.parent)
    except BaseException:
        _remove(fresh)
        raise
    return found


def _write(contents: Contents, folder: Path) -> None:
    documents: dict[str, bytes] = {
        fmt.SPEC: contents.spec.encode(),
        fmt.CARD: contents.card.encode(),
        fmt.LICENSE: contents.license.encode(),
        fmt.MODEL: pretty_json(contents.model),
        fmt.GOLDEN_INPUTS: contents.golden_inputs,
        fmt.GOLDEN_EXPECTED: pretty_json(contents.golden_expected),
        **{fmt.policy_path(name): pretty_json(policy) for name, policy in contents.policies.items()},
        **contents.extra,
    }
    for path, content in documents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    shutil.copyfile(contents.weights, folder / fmt.WEIGHTS)
    policies = {
        name: {
            "file": fmt.policy_path(name),
            "use": policy["use"],
            "mode": contents.modes_of[name],
            "members": list(policy["members"]),
        }
        for name, policy in contents.policies.items()
    }
    active = contents.manifest["active"]
    seal(
        folder,
        {
            **contents.manifest,
            "policies": policies,
            "mode": contents.modes_of.get(active, "fast"),
            "modes": serving_modes(active, contents.modes_of),
        },
    )


def serving_modes(active: str, modes_of: Mapping[str, str]) -> dict[str, str]:
    """Which policy serves each deployment mode: the active one its own, otherwise the first by name."""
    served: dict[str, str] = {}
    for name in sorted(modes_of, key=lambda name: (name != active, name)):
        served.setdefault(modes_of[name], name)
    return served


def seal(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes bundle.json for the files that lie in `folder`: their sizes and digests, and the id of it all."""
    files = {
        path.relative_to(folder).as_posix(): {"sha256": sha256_file(path), "size": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / fmt.MANIFEST
    }
    document = {**manifest, "format_version": fmt.FORMAT_VERSION, "files": files}
    document["bundle_id"] = fmt.bundle_id(document)
    (folder / fmt.MANIFEST).write_bytes(pretty_json(document))


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
