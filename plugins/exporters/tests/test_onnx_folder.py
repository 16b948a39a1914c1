"""An ONNX export is read only as it was written: nothing outside its folder, nothing without bounds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from roadwork_exporters import onnx_folder
from roadwork_exporters.onnx_folder import read, seal

from roadwork_core.errors import UsageError, VerificationError

PREPROCESSING = {
    "colour": "RGB",
    "size": [8, 8],
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bilinear",
    "fit": "crop",
    "size_multiple": 1,
    "min_side": 1,
}
MANIFEST = {
    "name": "streets",
    "bundle_id": "0" * 64,
    "labels": ["none", "roadwork"],
    "positive": "roadwork",
    "active": "cut",
    "fallback": None,
    "modes": {"fast": "cut"},
    "policies": ["cut"],
    "max_pixels": 1000,
    "preprocessing": PREPROCESSING,
    "tta": {"use": "none", "options": {}, "digest": "0" * 64},
    "network": {"opset": 18},
}
POLICY = {
    "schema": "roadwork.policy/1",
    "name": "cut",
    "use": "threshold",
    "options": {},
    "classes": ["none", "roadwork"],
    "positive": 1,
    "state": {},
    "summary": {},
    "guarantee": None,
    "members": [],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "export")


def write(folder: Path, **changes: Any) -> Path:
    """An export whose digests fit, with these values in export.json."""
    (folder / "golden").mkdir(parents=True)
    (folder / "policies").mkdir()
    (folder / "model.onnx").write_bytes(b"network")
    (folder / "golden/inputs.safetensors").write_bytes(b"pictures")
    (folder / "golden/expected.json").write_text("{}")
    (folder / "policies/cut.json").write_text(json.dumps(POLICY))
    seal(folder, {**MANIFEST, **changes})
    return folder


def refused(folder: Path) -> str:
    with pytest.raises(VerificationError) as raised:
        read(folder)
    return "\n".join(str(problem) for problem in raised.value.problems())


def test_what_was_written_is_read(folder: Path) -> None:
    bundle = read(folder)
    assert bundle.policies == {"cut": POLICY}
    assert bundle.model == {"preprocessing": PREPROCESSING, "tta": MANIFEST["tta"]}
    assert bundle.active == "cut"


@pytest.mark.parametrize("name", ["../../secret", "..", "/etc/secret", "a/../../secret", "a\\b", "", "cut\0", "ctü"])
def test_no_policys_name_leads_elsewhere(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret.json").write_text(json.dumps(POLICY))
    opened: list[str] = []
    open_ = os.open

    def watched(path: Any, *rest: Any, **more: Any) -> int:
        opened.append(str(path))
        return open_(path, *rest, **more)

    monkeypatch.setattr(os, "open", watched)
    said = refused(write(tmp_path / "export", policies=["cut", name]))
    assert "export.json policies.1: must be a name of letters" in said
    assert {Path(path).name for path in opened} <= {"export.json"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": 1, "policies": []}, "policies: must have at least 1 items"),
        ({"policies": {"cut": {}}}, "policies: must be an array"),
        ({"active": "other"}, "active: names the policy 'other', which is not here"),
        ({"fallback": "other"}, "fallback: names the policy 'other', which is not here"),
        ({"modes": {"fast": "../x"}}, "modes.fast: must be a name"),
        ({"modes": {"fast": "other"}}, "modes.fast: names the policy 'other', which is not here"),
        ({"positive": "other"}, "positive: is not one of the labels"),
        ({"max_pixels": "many"}, "max_pixels: must be an integer"),
        ({"preprocessing": {}}, "preprocessing.size: is missing"),
        ({"tta": {}}, "tta.use: is missing"),
        ({"policies": ["cut", "other"]}, "policies/other.json is not among the files"),
    ],
    ids=str,
)
def test_an_export_that_makes_no_sense_is_refused_at_its_key(tmp_path: Path, changes: Any, said: str) -> None:
    assert said in refused(write(tmp_path / "export", **changes))


def link(folder: Path) -> None:
    outside = folder.parent / "outside.json"
    outside.write_bytes((folder / "policies/cut.json").read_bytes())
    (folder / "policies/cut.json").unlink()
    (folder / "policies/cut.json").symlink_to(outside)


def link_folder(folder: Path) -> None:
    (folder / "policies").rename(folder.parent / "outside")
    (folder / "policies").symlink_to(folder.parent / "outside")


def relist(path: str) -> Callable[[Path], None]:
    """Lists a file that lies outside the folder, with its true digest."""

    def change(folder: Path) -> None:
        document = json.loads((folder / "export.json").read_text())
        document["files"][path] = document["files"]["policies/cut.json"]
        (folder.parent / "outside.json").write_bytes((folder / "policies/cut.json").read_bytes())
        (folder / "export.json").write_text(json.dumps(document))

    return change


def put(path: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / path).write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "model.onnx").unlink(), "model.onnx: is missing"),
        (put("model.onnx", b"Network"), "model.onnx: has changed"),
        (put("model.onnx", b"networks"), "model.onnx: has 8 bytes, not 7"),
        (put("extra.json", b"{}"), "extra.json: is not listed in export.json"),
        (link, "policies/cut.json: is a symbolic link"),
        (link_folder, "policies: is a symbolic link"),
        (relist("../outside.json"), "leads out of the bundle"),
        (lambda folder: os.mkfifo(folder / "pipe"), "pipe: is not a plain file"),
        (put("export.json", b"{"), "export.json: cannot be read: not JSON"),
        (put("export.json", b"[" * 100_000), "export.json: cannot be read: nested deeper"),
        (put("export.json", b'{"schema": NaN}'), "export.json: cannot be read: NaN"),
        (put("export.json", b"[]"), "must be a table"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damage_is_told_with_its_file(folder: Path, damage: Callable[[Path], object], said: str) -> None:
    damage(folder)
    assert said in refused(folder)


def test_what_is_read_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_folder, "MAX_MANIFEST_BYTES", (folder / "export.json").stat().st_size - 1)
    assert "export.json: cannot be read: is larger than" in refused(folder)


def test_a_policy_that_is_larger_than_any_is_not_read_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from roadwork_core.bundle import schema

    monkeypatch.setattr(schema.read_document, "__defaults__", (100,))
    assert "policies/cut.json: cannot be read: is larger than 100 bytes" in refused(folder)


def test_a_policy_of_another_shape_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "export")
    (folder / "policies/cut.json").write_text('{"schema": "roadwork.policy/1"}')
    (folder / "export.json").unlink()
    seal(folder, MANIFEST)
    assert "policies/cut.json state: is missing" in refused(folder)


def test_no_export_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no export\.json"):
        read(tmp_path)
