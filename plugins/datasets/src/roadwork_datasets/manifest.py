"""A table of pictures: CSV, TSV or JSON lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from roadwork_core import component, option
from roadwork_core.data.sample import Sample
from roadwork_core.errors import DataError
from roadwork_core.kinds import DatasetContext

from .rows import ManifestRow, read_rows


@component("dataset", "manifest")
class Manifest:
    """Pictures listed in a `.csv`, `.tsv` or `.jsonl` file, one row each: path, label and whatever else is known.

    Columns that have no meaning of their own become tags (to group or slice by).
    """

    path: str = option(min_length=1, help="the file that lists the pictures")
    root: str | None = option(
        default=None, min_length=1, help="what picture paths are relative to (default: the file's folder)"
    )
    path_column: str = option(default="path", help="column with the picture's path")
    label_column: str = option(default="label", help="column with the class")
    group_column: str = option(
        default="group", help='column with what must not cross splits, if there is one ("": do not use it)'
    )
    split_column: str = option(
        default="split", help='column with the data\'s own split, if there is one ("": do not use it)'
    )
    source_column: str = option(default="source", help="column with the picture's origin, if there is one")
    licence_column: str = option(default="licence", help="column with the picture's licence, if there is one")
    gps_columns: tuple[str, ...] = option(default=(), help="columns with latitude and longitude in degrees")
    labels: Mapping[str, str] = option(
        default={}, help='other names for labels, such as { "1" = "roadwork", "0" = "no_roadwork" }'
    )

    def build(self, ctx: DatasetContext) -> Sequence[Sample]:
        """The rows in their order. Raises DataError at the line that is wrong."""
        file = Path(self.path).expanduser()
        root = file.parent if self.root is None else Path(self.root).expanduser()
        named = {
            column
            for column in (
                *(self.path_column, self.label_column, self.group_column, self.split_column),
                *(self.source_column, self.licence_column, *self.gps_columns),
            )
            if column
        }
        samples: list[Sample] = []
        lines: dict[Path, int] = {}
        for row in read_rows(file):
            sample = self._sample(row, root, named)
            if sample.path in lines:
                raise DataError(
                    f"{row[self.path_column]} is listed twice, first in line {lines[sample.path]}",
                    path=file,
                    line=row.line,
                    hint="a picture has one row",
                )
            lines[sample.path] = row.line
            samples.append(sample)
        if not samples:
            raise DataError("lists no pictures", path=file, hint="a header and at least one row are needed")
        return samples

    def _sample(self, row: ManifestRow, root: Path, named: set[str]) -> Sample:
        label = row.required(self.label_column)
        return Sample(
            path=root / row.required(self.path_column),
            label=self.labels.get(label, label),
            source=row.get(self.source_column) or "",
            group=row.get(self.group_column),
            split=row.get(self.split_column),
            licence=row.get(self.licence_column),
            tags={name: value for name, value in row.values.items() if name and value and name not in named},
            gps=self._gps(row),
        )

    def _gps(self, row: ManifestRow) -> tuple[float, float] | None:
        if not self.gps_columns:
            return None
        if len(self.gps_columns) != 2:
            raise DataError(f"gps_columns names {len(self.gps_columns)} columns", hint="name latitude and longitude")
        texts = [row.get(name) for name in self.gps_columns]
        if None in texts:
            return None
        try:
            latitude, longitude = (float(text or "") for text in texts)
        except ValueError:
            raise row.error(f"{texts[0]}, {texts[1]} are not degrees", "leave both empty where unknown") from None
        if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
            raise row.error(f"{latitude:g}, {longitude:g} is not a place on earth", "latitude comes first")
        return latitude, longitude
