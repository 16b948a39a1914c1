"""The run that made a bundle is found by the bundle's id, wherever a copy of it is served."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from roadwork_core.runs.made import run_of


def made(runs: Path, name: str, bundle_id: str) -> Path:
    bundle = runs / name / "bundle" / "street"
    bundle.mkdir(parents=True)
    (bundle / "bundle.json").write_text(json.dumps({"bundle_id": bundle_id}))
    return bundle


def test_a_bundle_in_its_run_needs_no_search(tmp_path: Path) -> None:
    bundle = made(tmp_path / "runs", "one", "aa")
    assert run_of(bundle, tmp_path / "nowhere") == tmp_path / "runs" / "one"


def test_a_deployed_copy_is_known_by_its_id(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    made(runs, "one", "aa")
    version = tmp_path / "live" / "versions" / "bb"
    shutil.copytree(made(runs, "two", "bb"), version)
    (tmp_path / "live" / "current").symlink_to(Path("versions") / "bb")
    (runs / "three" / "bundle" / "broken").mkdir(parents=True)
    (runs / "three" / "bundle" / "broken" / "bundle.json").write_text("{")
    assert run_of(tmp_path / "live" / "current", runs) == runs / "two"


def test_what_is_no_bundle_or_of_no_run_there_has_none(tmp_path: Path) -> None:
    made(tmp_path / "runs", "one", "aa")
    strange = made(tmp_path / "elsewhere", "two", "bb").rename(tmp_path / "alone")
    assert run_of(strange, tmp_path / "runs") is None
    assert run_of(tmp_path / "nothing", tmp_path / "runs") is None
