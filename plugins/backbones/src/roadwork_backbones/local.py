"""Weights on this machine: when they changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def file_stamps(place: Path) -> list[list[Any]]:
    """[name, size, modification time in ns] of a file, or of the files in a folder; nothing for what is not here."""
    try:
        files = sorted(path for path in place.iterdir() if path.is_file()) if place.is_dir() else [place]
        return [[path.name, (status := path.stat()).st_size, status.st_mtime_ns] for path in files]
    except OSError:
        return []
