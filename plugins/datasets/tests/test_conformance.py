"""The datasets keep what their kind promises."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from roadwork_core.testing import DatasetContract

FOLDER = tempfile.TemporaryDirectory()


@functools.cache
def pictures() -> Path:
    """Two folders of pictures that are named by sequence and frame, and a CSV file that lists them."""
    root = Path(FOLDER.name)
    lines = ["path,label,group,lat,lon"]
    for label in ("roadwork", "no_roadwork"):
        (root / "pictures" / label).mkdir(parents=True)
        for index in range(3):
            name = f"{label}/s{index // 2}_{index}.png"
            Image.new("RGB", (40, 30), (80 * index, 90, 120)).save(root / "pictures" / name)
            lines.append(f"{name},{label},s{index // 2},48.1,11.{index}")
    (root / "list.csv").write_text("\n".join(lines) + "\n")
    return root


class TestImageFolder(DatasetContract):
    component = "datasets/image_folder"
    variants = ({"group_pattern": r"(s\d)_"}, {"extensions": [".png"], "source": "made"})

    def base_options(self) -> Mapping[str, Any]:
        return {"root": str(pictures() / "pictures")}


class TestManifest(DatasetContract):
    component = "datasets/manifest"
    variants = ({"gps_columns": ["lat", "lon"], "labels": {"roadwork": "yes", "no_roadwork": "no"}},)

    def base_options(self) -> Mapping[str, Any]:
        return {"path": str(pictures() / "list.csv"), "root": str(pictures() / "pictures")}


class TestSyntheticRoadwork(DatasetContract):
    component = "datasets/synthetic_roadwork"
    options: ClassVar = {"n": 8, "width": 32, "height": 24}
    variants = ({"weather": ["rain"], "frames_per_sequence": 2},)
