"""The options of the dataset. It lists samples and opens no picture."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from roadwork_core import component, option
from roadwork_core.data.sample import Sample
from roadwork_core.errors import DataError
from roadwork_core.kinds import DatasetContext


@component("dataset", "example")
class Example:
    """Pictures named in a CSV file with the columns `path` (below the file's folder), `label` and, if any, `group`."""

    file: str = option(help="path of the CSV file")
    delimiter: str = option(default=",", pattern=".", help="character between two columns")

    def build(self, ctx: DatasetContext) -> Sequence[Sample]:
        path = Path(self.file)
        if not path.is_file():
            raise DataError("there is no such file", path=path)
        with path.open(newline="") as lines:
            rows = list(csv.DictReader(lines, delimiter=self.delimiter))
        for number, row in enumerate(rows, start=2):
            if not row.get("path") or not row.get("label"):
                raise DataError("a row needs a path and a label", path=path, line=number)
        return [
            Sample(path=path.parent / row["path"], label=row["label"], group=row.get("group") or None) for row in rows
        ]
