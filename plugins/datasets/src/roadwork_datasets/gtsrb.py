"""The German Traffic Sign Recognition Benchmark as roadwork signs and others."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import frozen

from roadwork_core import component, option
from roadwork_core.data.sample import Sample
from roadwork_core.errors import DataError
from roadwork_core.kinds import DatasetContext

from .rows import ManifestRow, read_csv

_CLASSES = 43
_ENDINGS = (".ppm", ".png", ".jpg", ".jpeg")
#: Where the class folders may lie: as unpacked from the official archives, and in other editions.
_FOLDERS = ("", "Train", "Final_Training/Images", "GTSRB/Final_Training/Images", "Training", "GTSRB/Training")
_NAME = re.compile(r"(?:\d+_)?(\d+)_(\d+)")


@component("dataset", "gtsrb")
class Gtsrb:
    """GTSRB (Stallkamp et al., Neural Networks 32, 2012): photographs of traffic signs in 43 classes, in tracks.

    Takes the training part: folders `<class>/<track>_<frame>.ppm` with their `GT-<class>.csv`, or `Train.csv` of the
    Kaggle edition. A track shows one sign from nearing to passing it, so it is a group. The test part names no tracks.
    """

    root: str = option(help="the folder that was unpacked")
    positive_classes: tuple[int, ...] = option(
        default=(25,), min_length=1, minimum=0, maximum=_CLASSES - 1, help="classes that are roadwork (25: road work)"
    )
    negative_classes: tuple[int, ...] | None = option(
        default=None, min_length=1, minimum=0, maximum=_CLASSES - 1, help="classes that are not (default: all others)"
    )
    frames_per_track: int | None = option(
        default=None,
        minimum=1,
        help="frames of each track, evenly spread, the last and largest among them (default: all)",
    )

    def __attrs_post_init__(self) -> None:
        if both := set(self.positive_classes) & set(self.negative_classes or ()):
            raise ValueError(f"class {min(both)} is among both positive_classes and negative_classes")

    def build(self, ctx: DatasetContext) -> Sequence[Sample]:
        """The pictures by class, track and frame.

        Raises DataError for a folder in neither layout, a line of a table that is wrong, a picture with a name that
        tells no track, and a frame that is there twice.
        """
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise DataError("no such folder", path=root, hint="mend data.root of the spec")
        frames = list(_kaggle(root / "Train.csv") if (root / "Train.csv").is_file() else _official(root))
        tracks: dict[tuple[int, int], dict[int, _Frame]] = defaultdict(dict)
        for frame in frames:
            track = tracks[frame.sign, frame.track]
            if frame.number in track:
                raise DataError(
                    f"is frame {frame.number} of track {frame.track} of class {frame.sign}, and so is"
                    f" {track[frame.number].path}",
                    path=frame.path,
                    hint="remove one of them",
                )
            track[frame.number] = frame
        samples = []
        for (sign, number), track in sorted(tracks.items()):
            if self._label(sign) is not None:
                ordered = [track[frame] for frame in sorted(track)]
                samples += [self._sample(ordered[place], number) for place in self._places(len(ordered))]
        if not samples:
            raise DataError("holds no pictures of these classes", path=root, hint="check data.positive_classes")
        return samples

    def _label(self, sign: int) -> str | None:
        if sign in self.positive_classes:
            return "roadwork"
        return "no_roadwork" if self.negative_classes is None or sign in self.negative_classes else None

    def _places(self, count: int) -> Sequence[int]:
        """Which of `count` frames to take, counted back from the last."""
        wanted = min(count, self.frames_per_track or count)
        return sorted(count - 1 - place * count // wanted for place in range(wanted))

    def _sample(self, frame: _Frame, track: int) -> Sample:
        tags = {"class": f"{frame.sign:05d}", "track": f"{track:05d}", "frame": f"{frame.number:05d}"}
        return Sample(
            path=frame.path,
            label=self._label(frame.sign) or "",
            source="gtsrb",
            group=f"{frame.sign:05d}/{track:05d}",
            tags=tags,
        )


@frozen
class _Frame:
    path: Path
    sign: int
    track: int
    number: int


def _kaggle(table: Path) -> Iterator[_Frame]:
    for row in read_csv(table, ","):
        path = table.parent / _relative(row, "Path")
        yield _frame(path, _class_id(row), row)


def _official(root: Path) -> Iterator[_Frame]:
    folders = next((found for name in _FOLDERS if (found := _class_folders(root / name))), None)
    if folders is None:
        raise DataError(
            "is not in a layout of GTSRB: there is neither Train.csv nor a folder per class (00000 to 00042)",
            path=root,
            hint="unpack GTSRB-Training_fixed.zip or the Kaggle edition, and name that folder",
        )
    for sign, folder in folders:
        table = folder / f"GT-{folder.name}.csv"
        if not table.is_file():
            yield from (_frame(path, sign, None) for path in sorted(folder.iterdir()) if _is_picture(path))
            continue
        for row in read_csv(table, ";"):
            if (stated := _class_id(row)) != sign:
                raise row.error(f"ClassId is {stated} in the folder of class {sign}", "mend the table or the folder")
            yield _frame(folder / _relative(row, "Filename"), sign, row)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in _ENDINGS and not path.name.startswith(".")


def _class_folders(folder: Path) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        return []
    found = [(int(entry.name), entry) for entry in folder.iterdir() if re.fullmatch(r"[0-9]{1,5}", entry.name)]
    return sorted((sign, entry) for sign, entry in found if sign < _CLASSES and entry.is_dir())


def _class_id(row: ManifestRow) -> int:
    text = row.required("ClassId")
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) >= _CLASSES:
        raise row.error(f'ClassId "{text}" is not a class of GTSRB', f"classes are 0 to {_CLASSES - 1}")
    return int(text)


def _relative(row: ManifestRow, column: str) -> Path:
    name = Path(row.required(column))
    if name.is_absolute() or ".." in name.parts:
        raise row.error(f"{name} leads out of the folder", "paths are relative to the table")
    return name


def _frame(path: Path, sign: int, row: ManifestRow | None) -> _Frame:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        message, hint = (
            f"the name {path.name} tells no track and frame",
            "expected <track>_<frame>, such as 00000_00029",
        )
        raise row.error(message, hint) if row else DataError(message, path=path, hint=hint)
    if row is not None and not path.is_file():
        raise row.error(f"there is no picture {path.name}", "fetch the whole data set")
    return _Frame(path, sign, int(match[1]), int(match[2]))
