"""Files of a folder at any depth, and which of them are pictures by their names."""

from __future__ import annotations

import os
from pathlib import Path

from roadwork_core.data.natural import natural_key

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".avif")


def files_below(folder: Path) -> list[Path]:
    """All files below a folder that are not hidden, through links but into no folder twice."""
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        status = Path(parent).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(found, key=lambda path: natural_key(path.relative_to(folder).as_posix()))
