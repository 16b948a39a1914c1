"""Pictures to predict on: paths, folders and patterns in a stable order, one at a time."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from attrs import frozen

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif"})
STDIN = "-"


@frozen
class Source:
    """A picture's path, or why what was asked for is none."""

    path: str
    error: str | None = None


def find_images(arguments: Iterable[str], stdin: Iterable[str] = ()) -> Iterator[Source]:
    """The pictures that the arguments stand for; of folders, one folder's names are held at a time.

    A file is itself; a folder stands for the pictures below it (by suffix), its own by name and then those of each
    folder in it by name; `-` for the paths on `stdin`, one a line; anything else is a pattern (`*`, `?`, `[..]`,
    `**`) that files match.
    """
    for argument in arguments:
        if argument == STDIN:
            for line in stdin:
                if name := line.rstrip("\r\n"):
                    yield from _expand(name, patterns=False)
        else:
            yield from _expand(argument, patterns=True)


def _expand(argument: str, *, patterns: bool) -> Iterator[Source]:
    if os.path.isdir(argument):  # noqa: PTH112 - the argument is shown as given, so it stays a string
        yield from _folder(argument)
    elif os.path.lexists(argument):
        yield Source(argument)
    elif patterns and glob.has_magic(argument):
        matches = [match for match in glob.glob(argument, recursive=True) if os.path.isfile(match)]  # noqa: PTH113, PTH207 - as above
        for match in sorted(matches):
            yield Source(match)
        if not matches:
            yield Source(argument, "no file matches this pattern")
    else:
        yield Source(argument, "no such file or folder")


def _folder(folder: str) -> Iterator[Source]:
    empty = True
    closed: list[OSError] = []
    for here, folders, names in os.walk(folder, onerror=closed.append):
        folders.sort()
        for name in sorted(names):
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                empty = False
                yield Source(os.path.join(here, name))  # noqa: PTH118 - as above
    for error in closed:
        empty = False
        yield Source(str(error.filename), f"cannot be listed: {error.strerror}")
    if empty:
        yield Source(folder, "no pictures in this folder")
