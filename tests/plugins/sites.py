"""Puts the sample packages on a path with their metadata, as an installer would, without installing anything."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

PACKAGES = Path(__file__).parents[1] / "packages"


def place(site: Path, *names: str) -> Path:
    """Copies sample packages into `site`, each with its dist-info, and returns `site`."""
    for name in names:
        project = tomllib.loads((PACKAGES / name / "pyproject.toml").read_text())["project"]
        shutil.copytree(PACKAGES / name / "src", site, dirs_exist_ok=True)
        write_metadata(site, project["name"], project["version"], project["entry-points"])
    return site


def write_metadata(site: Path, name: str, version: str, groups: Mapping[str, Mapping[str, str]]) -> Path:
    """The dist-info of a distribution with entry points by group."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for group, points in groups.items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return info


def write_plugin(
    site: Path, module: str, body: str, *, entry: str | None = None, distribution: str | None = None
) -> Path:
    """A plugin of one module with the given source."""
    site.mkdir(parents=True, exist_ok=True)
    (site / f"{module}.py").write_text(body)
    write_metadata(site, distribution or module, "1.0", {"roadwork": {entry or module: module}})
    return site


def roadwork(*arguments: str, site: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """`roadwork ARGUMENTS` in a process of its own, with the packages of `site` installed."""
    path = os.pathsep.join([*([str(site)] if site else []), *(part for part in sys.path if part)])
    code = "import sys; from roadwork_core.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
