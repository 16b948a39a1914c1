"""The folder of an ONNX export: what lies in it, and reading it back with its digests checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from roadwork_core.bundle import Bundle, Verification
from roadwork_core.bundle.format import (
    MAX_MANIFEST_BYTES,
    POLICY_SHAPE,
    PREPROCESSING_SHAPE,
    policy_path,
    problems_of,
)
from roadwork_core.bundle.inventory import at, compare, survey
from roadwork_core.bundle.schema import read_document
from roadwork_core.bundle.shape import array, exactly, integer, mapping, nullable, table, text
from roadwork_core.errors import Problem, UsageError
from roadwork_core.files import pretty_json, sha256_file

SCHEMA = "roadwork.onnx/1"
MANIFEST = "export.json"
NETWORK = "model.onnx"
GOLDEN_INPUTS = "golden/inputs.safetensors"
GOLDEN_EXPECTED = "golden/expected.json"
#: As a bundle names them: no name that is part of a path can lead elsewhere.
_name = text(r"[A-Za-z0-9][A-Za-z0-9._-]*", what="a name of letters, digits, dots, hyphens and underscores")
_sha256 = text(r"[0-9a-f]{64}", what="a sha256 in hex")
_MANIFEST_SHAPE = table(
    {
        "schema": exactly(SCHEMA),
        "name": _name,
        "bundle_id": _sha256,
        "labels": array(text(), minimum=2, unique=True),
        "positive": text(),
        "policies": array(_name, minimum=1, unique=True),
        "active": _name,
        "fallback": nullable(_name),
        "modes": mapping(values=_name),
        "max_pixels": integer(1),
        "preprocessing": PREPROCESSING_SHAPE,
        "tta": table({"use": text(), "options": mapping()}, {"state": mapping()}, open=True),
        "network": mapping(),
        "files": mapping(values=table({"sha256": _sha256, "size": integer(0)}), minimum=1),
    },
    {"quantization": mapping()},
    open=True,
)


def seal(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes export.json for the files that lie in `folder`, with the size and sha256 of each."""
    files = {
        path.relative_to(folder).as_posix(): {"sha256": sha256_file(path), "size": path.stat().st_size}
        for path in _files(folder)
    }
    (folder / MANIFEST).write_bytes(pretty_json({**manifest, "schema": SCHEMA, "files": files}))


def read(folder: Path) -> Bundle:
    """The export as a bundle: export.json as its manifest, `preprocessing` and `tta` as its model, its policies.

    Nothing is read that export.json does not list, no link is followed, and no document is read beyond the sizes that
    a bundle's may have. Raises UsageError where there is no export, VerificationError with everything that is wrong.
    """
    if not (folder / MANIFEST).is_file():
        raise UsageError(f"there is no ONNX export: no {MANIFEST}", path=folder, hint="roadwork export --to onnx")
    found = survey(folder)
    manifest, problem = read_document(folder, MANIFEST, MAX_MANIFEST_BYTES)
    _refuse(folder, [problem] if problem else problems_of(_MANIFEST_SHAPE, manifest, at(MANIFEST)))
    _refuse(folder, [*compare(folder, found, manifest["files"], MANIFEST), *_agrees(manifest)])
    policies, problems = {}, []
    for name in manifest["policies"]:
        path = policy_path(name)
        policies[name], problem = read_document(folder, path)
        problems += [problem] if problem else problems_of(POLICY_SHAPE, policies[name], at(path))
    _refuse(folder, problems)
    model = {"preprocessing": manifest["preprocessing"], "tta": manifest["tta"]}
    return Bundle(folder, manifest, model, policies)


def _agrees(manifest: Mapping[str, Any]) -> Iterator[Problem]:
    """What export.json says twice, or of other files, and not alike."""
    policies, origin = manifest["policies"], at(MANIFEST)
    for path in (NETWORK, GOLDEN_INPUTS, GOLDEN_EXPECTED, *map(policy_path, policies)):
        if path not in manifest["files"]:
            yield Problem(f"{path} is not among the files", "files", origin)
    named = {"active": manifest["active"], "fallback": manifest["fallback"]}
    named |= {f"modes.{mode}": name for mode, name in manifest["modes"].items()}
    for key, name in named.items():
        if name is not None and name not in policies:
            yield Problem(f"names the policy {name!r}, which is not here", key, origin)
    if manifest["positive"] not in manifest["labels"]:
        yield Problem("is not one of the labels", "positive", origin)


def _refuse(folder: Path, problems: Sequence[Problem]) -> None:
    Verification(path=folder, levels={}, failures=tuple(problems)).raise_for_failures()


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if not path.is_dir() and path != folder / MANIFEST]
