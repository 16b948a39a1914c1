"""What a run must not be trained on: the pictures that it selects, fits and tests with, and those near to them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..data.perceptual import CORRELATION, correlations
from ..data.sample import Row
from ..data.scan import Look, scan
from ..data.table import read_rows
from ..errors import UsageError

#: Bits in which hashes of near-duplicates may differ: a little more than a run's own default, to be safe.
DISTANCE = 8
SPLITS = ("val_select", "val_calib", "test")


class HeldOut:
    """The sample tables of a finished run. Raises UsageError where the folder holds none."""

    def __init__(self, run: Path, *, distance: int = DISTANCE, threads: int = 2) -> None:
        try:
            document = json.loads((run / "prepare" / "classes.json").read_bytes())
            self.classes: list[str] = list(document["classes"])
            self.positive = self.classes[int(document["positive"])]
            tables = {split: read_rows(run / "prepare" / "samples" / f"{split}.jsonl") for split in (*SPLITS, "train")}
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise UsageError(
                f"is not the directory of a run: {error}", path=run, hint="it holds prepare/classes.json"
            ) from None
        self.tables = tables
        self._rows: list[Row] = [row for split in SPLITS for row in tables[split]]
        self._digests = {row.sha256 for row in self._rows}
        self._trained = {row.sha256 for row in tables["train"]}
        self._hashes = np.array([int(row.phash, 16) for row in self._rows], dtype=np.uint64)
        self._distance = distance
        self._threads = threads

    def look(self, paths: Sequence[str], max_pixels: int) -> list[Look | None]:
        """The look of each picture, None where it cannot be read."""
        found = scan([Path(path) for path in paths], max_pixels=max_pixels, threads=self._threads)
        return [one if isinstance(one, Look) else None for one in found]

    def refuses(self, look: Look) -> str | None:
        """Why a picture may not be added to train, or None.

        One whose hash is near to a held-out picture's is refused where their thumbnails correlate too, or where the
        held-out picture can no longer be read.
        """
        if look.sha256 in self._digests:
            return "in a held-out split"
        if look.sha256 in self._trained:
            return "in train already"
        near = np.flatnonzero(np.bitwise_count(self._hashes ^ np.uint64(look.phash)) <= self._distance)
        for other in self.look([self._rows[place].path for place in near.tolist()], 1_000_000_000):
            if other is None or correlations(look.thumbnail[None], other.thumbnail[None])[0] >= CORRELATION:
                return "near to a held-out picture"
        return None
