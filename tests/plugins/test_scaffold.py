"""`roadwork plugins new` writes, for every kind, a package that passes its own tests at once."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from roadwork_core.errors import UsageError
from roadwork_core.kinds import CONTRACTS, Kind
from roadwork_core.plugins import Plugins, Status
from roadwork_core.scaffold import TEMPLATES, plugin_files, write_plugin
from roadwork_core.testing import CONTRACT_CLASSES, ComponentContract


@pytest.mark.parametrize("kind", CONTRACTS)
def test_there_is_a_contract_and_a_template_for_every_kind(kind: Kind) -> None:
    assert CONTRACT_CLASSES[kind].kind is kind
    plugins = Plugins.of({"example": importlib.import_module(f"roadwork_core.scaffold.templates.{kind}")})
    assert plugins.records[0].status is Status.OK, plugins.records[0].cause
    assert plugins.names(kind) == ["example"]


@pytest.mark.parametrize("kind", CONTRACTS)
def test_the_written_package_is_whole(kind: Kind) -> None:
    files = plugin_files(kind, "my_own_part")
    project = tomllib.loads(files["pyproject.toml"])
    assert project["project"]["name"] == "my-own-part"
    assert project["project"]["entry-points"]["roadwork"] == {"my_own_part": "my_own_part"}
    assert {"src/my_own_part/__init__.py", "src/my_own_part/components.py", "tests/test_conformance.py"} <= set(files)
    for path, text in files.items():
        assert "Example" not in text, path
        assert "CONTRACT" not in text, path
        assert "KIND" not in text, path
        if path.endswith(".py"):
            compile(text, path, "exec")


def contract_of(kind: Kind) -> ComponentContract:
    """The contract on the template itself, as the written test would apply it."""
    component = importlib.import_module(f"roadwork_core.scaffold.templates.{kind}").Example
    body: dict[str, Any] = {"component": component}
    if kind is Kind.DATASET:
        body["base_options"] = _with_pictures
    made: ComponentContract = type("TestExample", (CONTRACT_CLASSES[kind],), body)()
    return made


FOLDER = tempfile.TemporaryDirectory()


def _with_pictures(_: object) -> Mapping[str, Any]:
    from PIL import Image

    folder = Path(FOLDER.name)
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    (folder / "labels.csv").write_text("path,label\na.png,yes\n")
    return {"file": str(folder / "labels.csv")}


CHECKS = [(kind, name) for kind in CONTRACTS for name in dir(CONTRACT_CLASSES[kind]) if name.startswith("test_")]


@pytest.mark.parametrize(("kind", "check"), CHECKS)
def test_every_template_keeps_what_its_kind_promises(kind: Kind, check: str) -> None:
    getattr(contract_of(kind), check)()


@pytest.mark.parametrize("kind", [Kind.CALIBRATOR, Kind.DATASET])
def test_the_written_package_passes_its_own_tests_before_it_is_installed(kind: Kind, tmp_path: Path) -> None:
    write_plugin(kind, "my_part", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path / "my_part",
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "failed" not in done.stdout


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "my_loss").mkdir()
    with pytest.raises(UsageError, match="already there"):
        write_plugin("loss", "my_loss", tmp_path)
    assert list((tmp_path / "my_loss").iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("colour", "my_loss", "no kind 'colour'.*loss"),
        ("loss", "My-Loss", "my_loss"),
        ("loss", "class", "cannot name a package"),
        ("loss", "../out", "cannot name a package"),
        ("loss", "torch", "'torch' is the name of a module that is already installed"),
        ("loss", "json", "'json' is the name of a module that is already installed"),
        ("loss", "sys", "'sys' is the name of a module that is already installed"),
        ("loss", "roadwork_core", "'roadwork_core' is the name of a module"),
        ("loss", "a" * 300, "a name of 300 characters is too long"),
    ],
)
def test_a_wrong_kind_or_name_is_refused(kind: str, name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        write_plugin(kind, name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_every_template_folder_is_a_kind() -> None:
    folders = {path.parent.name for path in TEMPLATES.glob("*/components.py")}
    assert folders == {str(kind) for kind in CONTRACTS}
