"""The pictures beside a feedback store: a file for each content, under the name of its sha256."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path

#: How a file of each format begins, after so many bytes.
_MAGIC = (
    (0, b"\xff\xd8\xff", ".jpg"),
    (0, b"\x89PNG", ".png"),
    (0, b"GIF8", ".gif"),
    (0, b"BM", ".bmp"),
    (0, b"II*\0", ".tif"),
    (0, b"MM\0*", ".tif"),
    (8, b"WEBP", ".webp"),
    (4, b"ftypavi", ".avif"),
)
_PART = re.compile(r"[0-9a-f]{2}")
#: A picture of this digest, or what a killed writer has left of one.
_FILE = re.compile(r"([0-9a-f]{64})\.[a-z]{3,4}|\.[0-9a-f]{32}")


class PictureFolder:
    """The folder of one store. Only what lies in it as `put` names it is ever listed, and so ever removed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, content: bytes, digest: str) -> Path:
        """Where the picture of this sha256 is from now on, whole, as an absolute path. Raises OSError."""
        suffix = next((suffix for at, magic, suffix in _MAGIC if content[at:].startswith(magic)), ".ppm")
        place = self._folder.absolute() / digest[:2] / f"{digest}{suffix}"
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            fresh = place.with_name(f".{uuid.uuid4().hex}")
            try:
                fresh.write_bytes(content)
                fresh.replace(place)
            finally:
                fresh.unlink(missing_ok=True)  # what a full disk has left of it
        return place

    def files(self) -> Iterator[tuple[str | None, Path]]:
        """Every file with its digest, None for one that was never finished."""
        for part in sorted(self._folder.iterdir()):
            if _PART.fullmatch(part.name) and part.is_dir() and not part.is_symlink():
                for path in part.iterdir():
                    if (found := _FILE.fullmatch(path.name)) and (found[1] or part.name)[:2] == part.name:
                        yield found[1], path
