"""A contact sheet of mined pictures, so that a person sees at a glance what would be trained on."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .mine import Error

TILE, CAPTION, GAP, COLUMNS = 160, 32, 8, 6
#: Pictures on a sheet, of each kind.
SHOWN = 24


def contact_sheet(chosen: Sequence[Error], suspects: Sequence[Error], *, max_pixels: int) -> bytes:
    """JPEG bytes: false positives, false negatives and doubtful labels, each under its heading."""
    from PIL import Image, ImageDraw

    parts = [(kind, [e for e in chosen if e.kind == kind][:SHOWN]) for kind in ("false_positive", "false_negative")]
    parts.append(("label doubted", list(suspects[:SHOWN])))
    pitch = TILE + CAPTION + GAP
    height = GAP + sum(CAPTION + pitch * -(-len(errors) // COLUMNS) for _, errors in parts if errors)
    sheet = Image.new("RGB", (GAP + COLUMNS * (TILE + GAP), max(height, CAPTION)), "white")
    pen = ImageDraw.Draw(sheet)
    top = GAP
    for name, errors in parts:
        if not errors:
            continue
        pen.text((GAP, top), name.replace("_", " "), fill="black")
        top += CAPTION
        for number, error in enumerate(errors):
            left, y = GAP + (number % COLUMNS) * (TILE + GAP), top + (number // COLUMNS) * pitch
            tile = _tile(Path(error.path), max_pixels)
            sheet.paste(tile, (left + (TILE - tile.width) // 2, y + (TILE - tile.height) // 2))
            pen.text((left, y + TILE), f"{error.truth[:12]} p={error.score:.2f}", fill="black")
            pen.text((left, y + TILE + 12), Path(error.path).name[:24].encode("ascii", "replace"), fill="grey")
        top += pitch * -(-len(errors) // COLUMNS)
    content = io.BytesIO()
    sheet.save(content, "JPEG", quality=85)
    return content.getvalue()


def _tile(path: Path, max_pixels: int) -> Any:
    from PIL import Image

    from ..data.decode import BadImageError, decode

    try:
        picture = Image.fromarray(decode(path, min_side=TILE, max_pixels=max_pixels))
    except BadImageError:
        return Image.new("RGB", (TILE, TILE), "grey")
    picture.thumbnail((TILE, TILE))
    return picture
