"""Pictures sorted into one folder per class."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from roadwork_core import component, option
from roadwork_core.data.natural import natural_key
from roadwork_core.data.sample import Sample
from roadwork_core.errors import DataError
from roadwork_core.kinds import DatasetContext

from .picture_files import EXTENSIONS, files_below

_SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "val_select", "val_calib", "dev", "test", "testing"}


@component("dataset", "image_folder")
class ImageFolder:
    """Pictures in `root/<class>/...`, at any depth; with `split_folders` in `root/<split>/<class>/...`."""

    root: str = option(min_length=1, help="the folder that holds a folder per class")
    split_folders: bool = option(default=False, help="the first level of folders are splits, the second classes")
    extensions: tuple[str, ...] = option(
        default=EXTENSIONS, min_length=1, pattern=r"\.[A-Za-z0-9.]+", help="what files are taken, in any case"
    )
    group_pattern: str | None = option(
        default=None,
        help="regular expression with one capture, searched in a picture's path below its class folder; pictures with"
        " the same capture never cross splits",
    )
    group_folders: bool = option(default=False, help="pictures of one folder below the class folder never cross splits")
    source: str = option(default="", help="where the pictures are from, noted with each sample")

    def __attrs_post_init__(self) -> None:
        if self.group_pattern is None:
            return
        if self.group_folders:
            raise ValueError("group_folders cannot be combined with group_pattern: take out one of them")
        try:
            captures = re.compile(self.group_pattern).groups
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"group_pattern is not a regular expression: {error}") from None
        if captures != 1:
            raise ValueError(rf'group_pattern must have one capture, has {captures} (for example "^(seq\d+)_")')

    def build(self, ctx: DatasetContext) -> Sequence[Sample]:
        """The pictures in natural order of their paths (frame2 before frame10).

        Hidden files and folders are passed over; other files that are not taken are counted in a message. Raises
        DataError for a folder that is missing or empty, or a path in which `group_pattern` finds nothing.
        """
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise DataError(
                "no such folder" if not root.exists() else "not a folder", path=root, hint="mend data.root of the spec"
            )
        pattern = None if self.group_pattern is None else re.compile(self.group_pattern)
        endings = tuple(ending.lower() for ending in self.extensions)
        samples: list[Sample] = []
        passed: list[Path] = []
        for split, class_folder in self._class_folders(root):
            found = 0
            for path in files_below(class_folder):
                if not path.name.lower().endswith(endings):
                    passed.append(path)
                    continue
                found += 1
                samples.append(
                    Sample(
                        path=path,
                        label=class_folder.name,
                        source=self.source,
                        group=self._group(root, class_folder, path, pattern),
                        split=split,
                    )
                )
            if not found:
                raise DataError(
                    "this class folder holds no pictures",
                    path=class_folder,
                    hint=f"remove it, or add what its files end in to data.extensions ({', '.join(self.extensions)})",
                )
        if passed:
            ctx.report(f"image_folder: passed over {len(passed)} files that are not pictures, such as {passed[0]}")
        return samples

    def _class_folders(self, root: Path) -> Iterator[tuple[str | None, Path]]:
        first = _folders(root)
        if not first:
            raise DataError("holds no folders", path=root, hint="put the pictures of each class into a folder of it")
        if not self.split_folders:
            if {folder.name.lower() for folder in first} <= _SPLIT_NAMES:
                raise DataError(
                    f"its folders look like splits, not classes: {', '.join(folder.name for folder in first)}",
                    path=root,
                    hint="set split_folders = true in [data]",
                )
            yield from ((None, folder) for folder in first)
            return
        for split in first:
            classes = _folders(split)
            if not classes:
                raise DataError("this split holds no class folders", path=split, hint="expected root/<split>/<class>")
            yield from ((split.name, folder) for folder in classes)

    def _group(self, root: Path, class_folder: Path, path: Path, pattern: re.Pattern[str] | None) -> str | None:
        below = path.relative_to(class_folder)
        if self.group_folders:
            return path.parent.relative_to(root).as_posix() if len(below.parts) > 1 else None
        if pattern is None:
            return None
        match = pattern.search(below.as_posix())
        if match is None or not match[1]:
            raise DataError(
                f"group_pattern finds no group in {below.as_posix()}",
                path=path,
                hint=f"the pattern is {self.group_pattern}",
            )
        return match[1]


def _folders(folder: Path) -> list[Path]:
    return sorted(
        (entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")),
        key=lambda entry: natural_key(entry.name),
    )
