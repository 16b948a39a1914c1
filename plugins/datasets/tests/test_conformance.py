"""The datasets keep what their kind promises."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from roadwork_core.testing import DatasetContract

from .natix_files import columns_of, jpeg, natix, pictures, write
from .test_coco_roadwork import document
from .test_gtsrb import official

FOLDER = tempfile.TemporaryDirectory()


@functools.cache
def picture_folders() -> Path:
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
        return {"root": str(picture_folders() / "pictures")}


class TestUnlabelledFolder(DatasetContract):
    component = "datasets/unlabelled_folder"
    variants = ({"group_folders": True}, {"extensions": [".png"], "source": "crawled"})

    def base_options(self) -> Mapping[str, Any]:
        return {"root": str(picture_folders() / "pictures")}


class TestManifest(DatasetContract):
    component = "datasets/manifest"
    variants = ({"gps_columns": ["lat", "lon"], "labels": {"roadwork": "yes", "no_roadwork": "no"}},)

    def base_options(self) -> Mapping[str, Any]:
        return {"path": str(picture_folders() / "list.csv"), "root": str(picture_folders() / "pictures")}


class TestSyntheticRoadwork(DatasetContract):
    component = "datasets/synthetic_roadwork"
    options: ClassVar = {"n": 8, "width": 32, "height": 24}
    variants = ({"weather": ["rain"], "frames_per_sequence": 2},)


@functools.cache
def published() -> Path:
    """One small set in each of the published layouts."""
    root = Path(FOLDER.name) / "published"
    write(root / "natix/train-00000-of-00001.parquet", columns_of(natix()))
    columns = {"image": pictures([jpeg(20), jpeg(21)]), "label": [0, 1], "seq": ["s1", "s2"], "sky": ["red", "blue"]}
    write(root / "plain/val/0000.parquet", columns)
    images = root / "roadwork/images"
    images.mkdir(parents=True)
    for number in range(4):
        (images / f"pgh04_000{number}.JPG").write_bytes(jpeg(30 + number))
    content = document([[("Cone", 900.0)], [("Fence", 900.0)], [], [("Drum", 4.0)]])
    (root / "roadwork/instances_train_gps_split.json").write_text(json.dumps(content))
    official(root / "gtsrb", frames=2)
    return root


class TestHuggingFace(DatasetContract):
    component = "datasets/huggingface"
    variants = (
        {"path": "plain", "group_column": "seq", "tag_columns": ["sky"], "labels": {"0": "none"}, "own_splits": True},
        {"drop_inconsistent": True, "only_splits": ["train"], "source": "natix", "layout": "natix"},
    )

    def base_options(self) -> Mapping[str, Any]:
        return {"path": str(published() / "natix")}

    def cases(self) -> list[Any]:
        base = dict(self.base_options())
        changed = [{**base, **variant} for variant in self.variants]
        changed[0]["path"] = str(published() / "plain")
        return [self.make(options) for options in (base, *changed)]


class TestCocoRoadwork(DatasetContract):
    component = "datasets/coco_roadwork"
    variants = ({"own_splits": True, "min_area": 9.0}, {"min_area": 9.0, "too_small": "negative"})

    def base_options(self) -> Mapping[str, Any]:
        folder = published() / "roadwork"
        return {"annotations": [str(folder / "instances_train_gps_split.json")], "images": str(folder / "images")}


class TestGtsrb(DatasetContract):
    component = "datasets/gtsrb"
    variants = ({"frames_per_track": 1, "negative_classes": [14]},)

    def base_options(self) -> Mapping[str, Any]:
        return {"root": str(published() / "gtsrb")}


class TestMixed(DatasetContract):
    component = "datasets/mixed"

    def base_options(self) -> Mapping[str, Any]:
        hub = {"use": "huggingface", "path": str(published() / "natix")}
        signs = {"use": "gtsrb", "root": str(published() / "gtsrb")}
        return {
            "sources": [
                {"dataset": hub, "share": 2.0, "split": "real"},
                {"dataset": signs, "name": "signs", "share": 1.0, "limit": 6, "split": "train"},
            ]
        }
