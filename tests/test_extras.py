"""What errors and pages say about installing: extras that exist, from the checkout, never a stranger's package."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from roadwork_core.extras import how_to_install

ROOT = Path(__file__).parents[1]
TEXTS = ("*.py", "*.md", "*.txt", "*.toml", "*.yml", "*.yaml", "Containerfile")
#: An argument of `pip install` that begins with our name is looked up on the index; a path is not.
FROM_INDEX = re.compile(r"pip install\b[^\n`&;|#]*?[\s'\"]roadwork(?!\w)(?![^\s'\"]*/)")
ASKED = re.compile(r'how_to_install\(\s*["\'](\w+)["\'](?:,\s*["\']([\w-]+)["\'])?\s*\)')


def sources() -> Iterator[Path]:
    for folder in ("roadwork_core", "plugins", "docs", "benchmarks"):
        for pattern in TEXTS:
            yield from (ROOT / folder).rglob(pattern)
    yield from (ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "tox.ini", ".ci/run"))


def extras_of(folder: str) -> set[str]:
    return set(tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]["optional-dependencies"])


def test_nobody_is_told_to_install_what_the_index_has_under_our_name() -> None:
    told = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if FROM_INDEX.search(line)
    ]
    assert not told


@pytest.mark.parametrize(
    "line", ["pip install roadwork", 'pip install "roadwork[onnx]"', "pip install -U roadwork-tta"]
)
def test_what_would_be_found(line: str) -> None:
    assert FROM_INDEX.search(line)
    assert not FROM_INDEX.search("uv pip install wheels/roadwork-*.whl wheels/roadwork_{heads,tta}-*.whl")


def test_every_extra_that_an_error_asks_for_is_one() -> None:
    asked = {match.groups() for path in sources() if path.suffix == ".py" for match in ASKED.finditer(path.read_text())}
    assert ("onnx", None) in asked
    assert ("timm", "roadwork-backbones") in asked
    for extra, distribution in asked:
        folder = "." if distribution is None else f"plugins/{distribution.removeprefix('roadwork-')}"
        assert extra in extras_of(folder), (extra, distribution)


def test_the_page_names_every_extra() -> None:
    rows = [line.split("|") for line in (ROOT / "docs/how-to/install.md").read_text().splitlines() if "| `" in line]
    named = {
        (folder.removeprefix("./"), extra)
        for _, extras, folders, *_ in rows
        for extra in re.findall(r"`(\w+)`", extras)
        for folder in re.findall(r"`([^`]+)`", folders)
    }
    plugins = [path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("plugins/*/pyproject.toml")]
    there = {(".", extra) for extra in extras_of(".")}
    for folder in plugins:
        project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
        there |= {(folder, extra) for extra in project.get("optional-dependencies", {})}
    assert named == there


def test_it_names_a_folder_of_the_checkout() -> None:
    assert how_to_install("onnx") == "in the checkout of roadwork: uv pip install '.[onnx]'"
    assert how_to_install("timm", "roadwork-backbones").endswith("uv pip install './plugins/backbones[timm]'")
