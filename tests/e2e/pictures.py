"""A folder of small pictures with shapes in them: orange triangles are roadwork, discs are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("no_roadwork", "roadwork")
SIZE = (44, 36)


def draw(root: Path, *, sequences: int = 12, frames: int = 5, seed: int = 0) -> Path:
    """Writes root/<class>/sequence-<n>/frame-<n>.png; `sequences` of each class. Returns the root."""
    rng = np.random.default_rng(seed)
    for target, label in enumerate(CLASSES):
        for sequence in range(sequences):
            folder = root / label / f"sequence-{sequence:02d}"
            folder.mkdir(parents=True)
            for frame in range(frames):
                _picture(rng, target).save(folder / f"frame-{frame}.png")
    return root


def _picture(rng: np.random.Generator, target: int) -> Image.Image:
    # A background of coarse noise, so that no two pictures look alike.
    coarse = Image.fromarray(rng.integers(40, 200, (5, 6, 3), dtype=np.uint8))
    picture = coarse.resize(SIZE, Image.Resampling.BICUBIC)
    x, y, r = (int(value) for value in (rng.integers(12, 32), rng.integers(12, 24), rng.integers(8, 12)))
    pen = ImageDraw.Draw(picture)
    if target:
        pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=(255, int(rng.integers(90, 140)), 0))
    else:
        pen.ellipse([x - r, y - r, x + r, y + r], fill=(30, int(rng.integers(80, 140)), int(rng.integers(150, 230))))
    return picture
