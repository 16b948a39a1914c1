"""The folder of an ONNX export: what lies in it, and reading it back with its digests checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from roadwork_core.bundle import Bundle
from roadwork_core.errors import Problem, UsageError, VerificationError
from roadwork_core.files import pretty_json, sha256_file

SCHEMA = "roadwork.onnx/1"
MANIFEST = "export.json"
NETWORK = "model.onnx"
GOLDEN_INPUTS = "golden/inputs.safetensors"
GOLDEN_EXPECTED = "golden/expected.json"


def seal(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes export.json for the files that lie in `folder`, with the size and sha256 of each."""
    files = {
        path.relative_to(folder).as_posix(): {"sha256": sha256_file(path), "size": path.stat().st_size}
        for path in _files(folder)
    }
    (folder / MANIFEST).write_bytes(pretty_json({**manifest, "schema": SCHEMA, "files": files}))


def read(folder: Path) -> Bundle:
    """The export as a bundle: export.json as its manifest, `preprocessing` and `tta` as its model, its policies.

    Raises UsageError where there is no export, VerificationError with every file that is missing, changed or extra.
    """
    if not (folder / MANIFEST).is_file():
        raise UsageError(f"there is no ONNX export: no {MANIFEST}", path=folder, hint="roadwork export --to onnx")
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if manifest["schema"] != SCHEMA:
            raise ValueError(f"its schema is {manifest['schema']!r}, not {SCHEMA!r}")
        stated: Mapping[str, Mapping[str, Any]] = manifest["files"]
        found = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
        problems = [Problem(f"{name} is missing") for name in sorted(stated.keys() - found.keys())]
        problems += [Problem(f"{name} is not of this export") for name in sorted(found.keys() - stated.keys())]
        problems += [
            Problem(f"{name} was changed")
            for name in sorted(stated.keys() & found.keys())
            if found[name].is_symlink() or sha256_file(found[name]) != stated[name]["sha256"]
        ]
        if problems:
            raise VerificationError(f"{len(problems)} failures", problems, path=folder)
        policies = {name: json.loads((folder / f"policies/{name}.json").read_bytes()) for name in manifest["policies"]}
        model = {"preprocessing": manifest["preprocessing"], "tta": manifest["tta"]}
        return Bundle(folder, manifest, model, policies)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VerificationError(f"{MANIFEST} cannot be read: {' '.join(str(error).split())}", path=folder) from None


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if not path.is_dir() and path != folder / MANIFEST]
