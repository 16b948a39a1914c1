"""ROADWork's annotated objects as roadwork or no roadwork."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from attrs import define, field

from roadwork_core import component, option
from roadwork_core.data.sample import Sample
from roadwork_core.errors import DataError
from roadwork_core.kinds import DatasetContext

if TYPE_CHECKING:
    from .coco import Coco, CocoImage

POSITIVE = (
    *("Cone", "Drum", "Barricade", "Work Vehicle", "Vertical Panel", "Tubular Marker", "Arrow Board"),
    *("TTC Message Board", "TTC Sign", "Work Equipment", "Worker", "Other Roadwork"),
)
AMBIGUOUS = ("Fence", "Barrier")
_SPLIT = re.compile(r"(?:^|_)(train|val|test)(?:_|$)")


@component("dataset", "coco_roadwork")
class CocoRoadwork:
    """ROADWork (Ghosh et al., arXiv 2406.07661): COCO files whose images carry gps, city_name, video_info and tags.

    An image with an object of a positive category is roadwork. One with ambiguous or too small objects alone is left
    out and counted. Any other is no_roadwork. Categories are matched by name, never by number. Frames of one (city,
    sequence, video) are a group.
    """

    annotations: tuple[str, ...] = option(min_length=1, help="files such as instances_train_gps_split.json")
    images: str = option(help="the folder that file names are relative to")
    min_area: float = option(default=0.0, minimum=0, help="square pixels that an object must have to count")
    positive_categories: tuple[str, ...] = option(
        default=POSITIVE, min_length=1, help="categories of which one object makes an image roadwork"
    )
    ambiguous_categories: tuple[str, ...] = option(
        default=AMBIGUOUS, help="categories that alone say neither; such images are left out"
    )
    too_small: Literal["drop", "negative"] = option(
        default="drop", help="images whose positive objects are all below min_area are left out, or are no_roadwork"
    )
    own_splits: bool = option(default=False, help="train and val of the file names are kept as the data's own splits")
    licence: str = option(default="ODC-By-1.0", help="licence of images for which the file names none")
    source: str = option(default="roadwork-cmu", help="where the images are from, noted with each sample")

    def __attrs_post_init__(self) -> None:
        positive = {category_name(name) for name in self.positive_categories}
        if both := [name for name in self.ambiguous_categories if category_name(name) in positive]:
            raise ValueError(f'"{both[0]}" is among both positive_categories and ambiguous_categories')

    def build(self, ctx: DatasetContext) -> Sequence[Sample]:
        """The images in the order of the files. Raises DataError with the place in the file that is wrong."""
        from .coco import read_coco

        root = Path(self.images).expanduser()
        if not root.is_dir():
            raise DataError("no such folder", path=root, hint="mend data.images of the spec")
        rule = _Rule(
            positive={category_name(name) for name in self.positive_categories},
            ambiguous={category_name(name) for name in self.ambiguous_categories},
            min_area=self.min_area,
            too_small=None if self.too_small == "drop" else "no_roadwork",
        )
        samples: list[Sample] = []
        listed: dict[Path, str] = {}
        for name in self.annotations:
            coco = read_coco(Path(name).expanduser())
            rule.refuse_other_names(coco)
            split = self._split(coco.path)
            for image in coco.images:
                path = _inside(root, coco, image)
                if path in listed:
                    raise DataError(
                        f"{image.place}: {image.file_name} is listed twice, first in {listed[path]}",
                        path=coco.path,
                        hint="name files of one way to split alone, such as *_gps_split.json",
                    )
                listed[path] = f"{coco.path.name} {image.place}"
                if (label := rule.label(image)) is not None:
                    samples.append(self._sample(coco, image, path, label, split))
        for reason, count in rule.left_out.items():
            ctx.report(f"coco_roadwork: left out {count} images: {reason}")
        if not samples:
            raise DataError("lists no image that can be labelled", path=self.annotations[0], hint="check min_area")
        return samples

    def _split(self, path: Path) -> str | None:
        if not self.own_splits:
            return None
        match = _SPLIT.search(path.stem)
        if match is None:
            raise DataError(
                "its name tells no split", path=path, hint="expected train, val or test, or own_splits = false"
            )
        return match[1]

    def _sample(self, coco: Coco, image: CocoImage, path: Path, label: str, split: str | None) -> Sample:
        from .scenes import gps_of, scene_tags, sequence_of

        tags = scene_tags(image.record)
        try:
            gps = gps_of(image.record.get("gps"))
        except ValueError as error:
            raise DataError(f"{image.place}: gps: {error}", path=coco.path, hint="null where unknown") from None
        number = image.record.get("license")
        return Sample(
            path=path,
            label=label,
            source=self.source,
            group=sequence_of(tags),
            split=split,
            licence=coco.licences.get(number if isinstance(number, int | str) else None, self.licence) or None,
            tags=tags,
            gps=gps,
        )


def category_name(name: str) -> str:
    """A category's name without what differs between editions: capitals, "TTC" for "Temporary Traffic Control", what a
    sign says ("TTC Sign: left arrow"), plurals, and "Objects" at the end."""
    words = re.findall(r"[a-z0-9]+", name.partition(":")[0].casefold())
    words = [word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in words]
    if words[:1] == ["ttc"]:
        words[:1] = ["temporary", "traffic", "control"]
    if len(words) > 1 and words[-1] == "object":
        del words[-1]
    return " ".join(words)


@define
class _Rule:
    """The binary rule; it counts why images were left out."""

    positive: set[str]
    ambiguous: set[str]
    min_area: float
    too_small: str | None
    left_out: Counter[str] = field(factory=Counter)

    def refuse_other_names(self, coco: Coco) -> None:
        if not self.positive & {category_name(name) for name in coco.categories}:
            raise DataError(
                "none of its categories is a positive one", path=coco.path, hint=f"it has {', '.join(coco.categories)}"
            )

    def label(self, image: CocoImage) -> str | None:
        names = [(category_name(item.category), item.area >= self.min_area) for item in image.objects]
        if any(name in self.positive and large for name, large in names):
            return "roadwork"
        if any(name in self.positive for name, _ in names) and self.too_small is None:
            self.left_out[f"what shows roadwork is smaller than {self.min_area:g} square pixels"] += 1
            return None
        if any(name in self.ambiguous and large for name, large in names):
            self.left_out["only ambiguous objects"] += 1
            return None
        return "no_roadwork"


def _inside(root: Path, coco: Coco, image: CocoImage) -> Path:
    name = Path(image.file_name)
    if name.is_absolute() or ".." in name.parts:
        raise DataError(
            f"{image.place}: {image.file_name} leads out of the folder of images",
            path=coco.path,
            hint="file names are relative to data.images",
        )
    return root / name
