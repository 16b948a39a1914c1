"""ROADWork's COCO files: the binary rule by category name, groups, places, and the place of every mistake."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from roadwork_datasets import CocoRoadwork
from roadwork_datasets.coco_roadwork import AMBIGUOUS, POSITIVE, category_name

from roadwork_core.data.sample import Sample
from roadwork_core.errors import DataError
from roadwork_core.kinds import DatasetContext

#: The published names, with numbers of the test's own: numbers say nothing.
NAMES = (
    *("Road", "Sidewalk", "Bike Lane", "Police Officer", "Police Vehicle", "Fence", "Barrier"),
    *("Cone", "Drum", "Barricade", "Work Vehicle", "Vertical Panel", "Tubular Marker", "Arrow Board"),
    *("Temporary Traffic Control Message Board", "Temporary Traffic Control Sign", "Work Equipment", "Worker"),
    "Other Roadwork Objects",
)
NEUTRAL = {"Road", "Sidewalk", "Bike Lane", "Police Officer", "Police Vehicle"}
said: list[str] = []


def document(images: Sequence[Sequence[tuple[str, float]]]) -> dict[str, Any]:
    """A file in the published layout: for each image the category and area of its objects."""
    numbers = {name: 100 - place for place, name in enumerate(NAMES)}
    objects = [(image, name, area) for image, held in enumerate(images) for name, area in held]
    return {
        "info": {"description": "ROADWork"},
        "licenses": [{"id": 1, "name": "MIT", "url": ""}],
        "categories": [{"id": number, "name": name, "supercategory": ""} for name, number in numbers.items()],
        "images": [
            {
                **{"id": 50 + place, "file_name": f"pgh04_{place:04d}.JPG", "width": 1920, "height": 1080},
                **{"license": 0, "flickr_url": None, "coco_url": None, "date_captured": 0},
                **{"gps": [40.44, -79.9], "city_name": "pittsburgh", "scene_description": "Cones."},
                "video_info": {"frame_id": f"{place:05d}.jpg", "seq_id": place // 2, "vid_id": "pgh04"},
                "scene_level_tags": {
                    **{"daytime": "Light", "scene_environment": "Urban"},
                    **{"travel_alteration": ["Fully Blocked", "Other"], "weather": ["Sunny"]},
                },
            }
            for place in range(len(images))
        ],
        "annotations": [
            {
                **{"id": 7 + place, "image_id": 50 + image, "category_id": numbers[name], "iscrowd": 0},
                **{"area": area, "bbox": [0, 0, area, 1], "segmentation": []},
            }
            for place, (image, name, area) in enumerate(objects)
        ],
    }


def samples(tmp_path: Path, content: Any, name: str = "instances_train_gps_split.json", **options: Any) -> list[Sample]:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    (tmp_path / "images").mkdir(exist_ok=True)
    options = {"annotations": (str(path),), "images": str(tmp_path / "images"), **options}
    said.clear()
    return list(CocoRoadwork(**options).build(DatasetContext(cache_dir=tmp_path, seed=0, report=said.append)))


def labels(tmp_path: Path, *images: Sequence[tuple[str, float]], **options: Any) -> dict[str, str]:
    found = samples(tmp_path, document(images), **options)
    return {sample.path.stem[-1]: sample.label for sample in found}


def refused(tmp_path: Path, content: Any, **options: Any) -> str:
    with pytest.raises(DataError) as error:
        samples(tmp_path, content, **options)
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith(str(tmp_path))
    return text


def test_the_defaults_are_the_published_categories() -> None:
    published = {category_name(name) for name in NAMES}
    assert {category_name(name) for name in (*POSITIVE, *AMBIGUOUS)} == published - {
        category_name(name) for name in NEUTRAL
    }


@pytest.mark.parametrize("name", NAMES)
def test_each_category_alone(tmp_path: Path, name: str) -> None:
    found = labels(tmp_path, [(name, 900.0)], [])
    expected = "no_roadwork" if name in NEUTRAL else "roadwork"
    assert found == ({"1": "no_roadwork"} if name in AMBIGUOUS else {"0": expected, "1": "no_roadwork"})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from([0.0, 99.0, 100.0, 5000.0])), max_size=4)))
def test_the_rule_is_that_of_the_data_sheet(tmp_path: Path, images: list[list[tuple[str, float]]]) -> None:
    expected = []
    for place, held in enumerate(images):
        works = [area >= 100 for name, area in held if name not in (*NEUTRAL, *AMBIGUOUS)]
        unclear = [area >= 100 for name, area in held if name in AMBIGUOUS]
        if any(works):
            expected.append((place, "roadwork"))
        elif not works and not any(unclear):
            expected.append((place, "no_roadwork"))
    content = document([*images, [("Cone", 100.0)]])
    found = [(int(sample.path.stem[-4:]), sample.label) for sample in samples(tmp_path, content, min_area=100.0)]
    assert found == [*expected, (len(images), "roadwork")]


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    labels(tmp_path, [("Fence", 9)], [("Barrier", 9), ("Road", 9)], [("Cone", 3)], [("Cone", 8)], min_area=5.0)
    assert said == [
        "coco_roadwork: left out 2 images: only ambiguous objects",
        "coco_roadwork: left out 1 images: what shows roadwork is smaller than 5 square pixels",
    ]


def test_small_objects_can_be_nothing(tmp_path: Path) -> None:
    assert labels(tmp_path, [("Cone", 3)], [("Cone", 9)], min_area=5.0, too_small="negative") == {
        "0": "no_roadwork",
        "1": "roadwork",
    }


def test_the_categories_can_be_others(tmp_path: Path) -> None:
    options = {"positive_categories": ("Police Vehicle",), "ambiguous_categories": ("Cone",)}
    images = [("Police Vehicle", 9)], [("Cone", 9)], [("Drum", 9)]
    assert labels(tmp_path, *images, **options) == {"0": "roadwork", "2": "no_roadwork"}
    with pytest.raises(ValueError, match='"cone" is among both'):
        CocoRoadwork(annotations=("x",), images="y", ambiguous_categories=("cone",))


def test_names_of_signs_with_what_they_say_are_signs() -> None:
    for name in ("TTC Sign", "Temporary Traffic Control Sign: left arrow", "temporary-traffic-control signs"):
        assert category_name(name) == "temporary traffic control sign"


def test_an_image_keeps_what_the_file_knows(tmp_path: Path) -> None:
    content = document([[("Cone", 9)], [], []])
    content["images"][1] |= {"license": 1, "gps": None, "video_info": None, "scene_level_tags": {"weather": []}}
    content["images"][2]["gps"] = {"latitude": 40.0, "longitude": -80.0}
    first, second, third = samples(tmp_path, content, own_splits=True)
    assert first == Sample(
        path=tmp_path / "images/pgh04_0000.JPG",
        label="roadwork",
        source="roadwork-cmu",
        group="pittsburgh/0/pgh04",
        split="train",
        licence="ODC-By-1.0",
        gps=(40.44, -79.9),
        tags={
            **{"city": "pittsburgh", "seq": "0", "vid": "pgh04", "frame": "00000.jpg"},
            **{"daytime": "Light", "scene_environment": "Urban", "weather": "Sunny"},
            "travel_alteration": "Fully Blocked, Other",
        },
    )
    assert (second.group, second.gps, second.licence, second.tags) == (None, None, "MIT", {"city": "pittsburgh"})
    assert third.gps == (40.0, -80.0)


def test_an_area_that_is_not_stated_is_that_of_the_box(tmp_path: Path) -> None:
    content = document([[("Cone", 3)], [("Cone", 9)]])
    for record in content["annotations"]:
        del record["area"]
    assert [sample.label for sample in samples(tmp_path, content, min_area=5.0)] == ["roadwork"]


def test_files_of_two_splits_go_together_and_an_image_in_both_is_refused(tmp_path: Path) -> None:
    both = document([[("Cone", 9)], []])
    train, val = copy.deepcopy(both), copy.deepcopy(both)
    del train["images"][1], val["images"][0], val["annotations"]
    val["annotations"] = []
    (tmp_path / "instances_val_gps_split.json").write_text(json.dumps(val))
    names = tuple(str(tmp_path / f"instances_{split}_gps_split.json") for split in ("train", "val"))
    found = samples(tmp_path, train, annotations=names, own_splits=True)
    assert [(sample.split, sample.label) for sample in found] == [("train", "roadwork"), ("val", "no_roadwork")]
    text = refused(tmp_path, both, annotations=names)
    assert "images[0]: pgh04_0001.JPG is listed twice, first in instances_train_gps_split.json images[1]" in text


def change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(content: dict[str, Any]) -> None:
        *tables, last = path.split(".")
        target: Any = content
        for name in tables:
            target = target[int(name) if name.isdigit() else name]
        target[int(last) if last.isdigit() else last] = value

    return apply


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("images", {}, 'is not COCO: "images" is missing or no array'),
        ("images.1", "x", "images[1]: is no object"),
        ("images.1.id", 50, "images[1]: id 50 is used twice, first in images[0]"),
        ("images.1.id", None, 'images[1]: "id" is missing, not an id'),
        ("images.1.id", 1.5, 'images[1]: "id" is 1.5, not an id'),
        ("images.1.file_name", None, 'images[1]: "file_name" is missing, not text'),
        ("images.1.file_name", "../../x.jpg", "images[1]: ../../x.jpg leads out of the folder"),
        ("images.1.file_name", "/etc/x.jpg", "images[1]: /etc/x.jpg leads out of the folder"),
        ("images.1.gps", [200, 0], "images[1]: gps: 200, 0 is not a place on earth"),
        ("images.1.gps", [40.0], "images[1]: gps: [40.0] is no latitude and longitude"),
        ("images.1.gps", True, "images[1]: gps: True is no latitude and longitude"),
        ("annotations.0.image_id", 9, "annotations[0]: image_id 9 is no image of the file"),
        ("annotations.0.category_id", 9, "annotations[0]: category_id 9 is no category of the file"),
        ("annotations.1.id", 7, "annotations[1]: id 7 is used twice, first in annotations[0]"),
        ("annotations.1.area", "large", 'annotations[1]: "area" is missing or no size'),
        ("annotations.1.area", -1, 'annotations[1]: "area" is missing or no size'),
        ("categories.1.name", 5, 'categories[1]: "name" is 5, not text'),
        ("categories.1.id", 100, "categories[1]: id 100 is used twice, first in categories[0]"),
    ],
)
def test_a_mistake_has_its_place(tmp_path: Path, path: str, value: Any, message: str) -> None:
    content = document([[("Cone", 9), ("Drum", 9)], []])
    change(path, value)(content)
    assert message in refused(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"images": [\n{"id": 1},\n', ".json:3: is not JSON"),
        (b'{"a": "\xff"}', ".json: is not JSON"),
        (b"[" * 100_000, ".json: is not JSON"),
        (b"[]", ".json: is not COCO: no object at the top"),
        ({"predictions": []}, '.json: is not COCO: "categories" is missing or no array (it has predictions)'),
        ({"categories": [{"id": 1, "name": "cat"}], "images": [], "annotations": []}, "none of its categories is"),
        ({"categories": [{"id": 1, "name": "Cone"}], "images": [], "annotations": []}, "lists no image"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: Any, message: str) -> None:
    assert message in refused(tmp_path, content)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    content = document([[("Cone", 9)]])
    assert "no.json: no such file" in refused(tmp_path, content, annotations=(str(tmp_path / "no.json"),))
    assert "photos: no such folder" in refused(tmp_path, content, images=str(tmp_path / "photos"))
    text = refused(tmp_path, content, name="coco.json", own_splits=True)
    assert "coco.json: its name tells no split" in text
