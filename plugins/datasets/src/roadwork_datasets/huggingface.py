"""Data sets of the hub: parquet files with pictures in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from roadwork_core import component, option
from roadwork_core.data.sample import Sample
from roadwork_core.errors import DataError
from roadwork_core.extras import Requirement
from roadwork_core.kinds import DatasetContext

if TYPE_CHECKING:
    from pathlib import Path

    from .parquet import ParquetTable

_NATIX_LABELS = {"0": "no_roadwork", "1": "roadwork", "false": "no_roadwork", "true": "roadwork"}
_SCENE = ("city_name", "gps", "license", "scene_description", "video_info", "scene_level_tags")


@component("dataset", "huggingface")
class HuggingFace:
    """Parquet files in the layout of the hub: a column with pictures (struct of bytes and path) and one with labels.

    `layout = "natix"` is that of natix-network-org/roadwork: frames of one (city, sequence, video) are a group, GPS and
    scene-level tags are kept, labels 0 and 1 are no_roadwork and roadwork. Pictures are taken out of the files once.
    """

    path: str = option(
        help="a parquet file, a folder of them, or a hub id (owner/name); code of a repository never runs"
    )
    revision: str | None = option(default=None, help="branch, tag or commit of a hub id (default: main)")
    files: tuple[str, ...] = option(
        default=("**/*.parquet",), min_length=1, pattern=r".*\.parquet", help="patterns of the files to take"
    )
    only_splits: tuple[str, ...] | None = option(
        default=None, min_length=1, help='only these splits, as file names tell them (train of "train-00000-of-00002")'
    )
    own_splits: bool = option(default=False, help="the data's own splits are kept; see data.splits.assign")
    layout: Literal["auto", "plain", "natix"] = option(
        default="auto", help="which columns mean what (auto: natix where the columns of video_info are there)"
    )
    image_column: str = option(default="image", help="column with the pictures")
    label_column: str = option(default="label", help="column with the class: ClassLabel, integer, bool or text")
    group_column: str | None = option(default=None, help="column with what must not cross splits (not in natix)")
    tag_columns: tuple[str, ...] = option(default=(), help="columns to keep as tags")
    labels: Mapping[str, str] = option(
        default={}, help='other names for labels, such as { "1" = "roadwork", "0" = "no_roadwork" }'
    )
    drop_inconsistent: bool = option(
        default=False, help="natix: leave out rows where whether there is a description differs from the label"
    )
    source: str = option(default="", help="where the pictures are from, noted with each sample")

    def needs(self) -> list[Requirement]:
        from .hub import CLIENT, is_of_hub

        return [CLIENT] if is_of_hub(self.path) else []

    def build(self, ctx: DatasetContext) -> Sequence[Sample]:
        """The pictures in the order of files and rows, each once.

        A picture that is there again with the same label counts once, with another label not at all; both are
        reported. Raises DataError with the file, and the row, that is wrong.
        """
        from .hub import parquet_files
        from .parquet import open_parquet, split_of

        files = [(split_of(name), path) for name, path in parquet_files(*self._where(), ctx.report)]
        if self.only_splits is not None:
            here = list(dict.fromkeys(split for split, _ in files))
            if absent := [split for split in self.only_splits if split not in here]:
                raise DataError(f'no split "{absent[0]}"', path=self.path, hint=f"there is {', '.join(here)}")
            files = [(split, path) for split, path in files if split in self.only_splits]
        samples: list[Sample] = []
        inconsistent = 0
        for split, path in files:
            table = open_parquet(path)
            found, dropped = self._samples(table, split if self.own_splits else None, ctx)
            samples += found
            inconsistent += dropped
        if inconsistent:
            ctx.report(f"huggingface: left out {inconsistent} rows whose description contradicts the label")
        if not samples:
            raise DataError(
                "holds no rows", path=self.path, hint="check data.files, data.only_splits and drop_inconsistent"
            )
        return _each_once(samples, ctx)

    def _where(self) -> tuple[str, str | None, Sequence[str]]:
        return self.path, self.revision, self.files

    def _samples(self, table: ParquetTable, split: str | None, ctx: DatasetContext) -> tuple[list[Sample], int]:
        from .extraction import extract_pictures
        from .scenes import nested

        natix = self._is_natix(table)
        _refuse_other_pictures(table, self.image_column)
        to_text = _label_reader(table, self.label_column, use_names=not natix)
        columns = self._columns(table, natix)
        records = [nested(row) if natix else row for row in table.records(columns)]
        names = {**_NATIX_LABELS, **self.labels} if natix else self.labels
        labels: list[str] = []
        for row, record in enumerate(records):
            text = to_text(row, record[self.label_column])
            if natix and text not in _NATIX_LABELS:
                raise table.row_error(row, f"label {text} is neither 0 nor 1", 'set layout = "plain" for other labels')
            labels.append(names.get(text, text))
        wanted = [True] * len(records)
        if natix and self.drop_inconsistent:
            positive = {"1", "true"}
            wanted = [
                bool(record["scene_description"]) == (to_text(row, record[self.label_column]) in positive)
                for row, record in enumerate(records)
            ]
        pictures = extract_pictures(table, self.image_column, wanted, ctx.cache_dir)
        samples = [
            self._sample(table, row, record, label, picture, split, natix)
            for row, (record, label, picture) in enumerate(zip(records, labels, pictures, strict=True))
            if picture is not None
        ]
        return samples, wanted.count(False)

    def _is_natix(self, table: ParquetTable) -> bool:
        names = set(table.schema.names)
        natix = "city_name" in names and bool({"video_info", "video_info.vid_id"} & names)
        if self.layout == "natix" and not natix:
            raise table.error(
                'is not in the layout natix: it lacks "city_name" or "video_info"', f"it has {', '.join(sorted(names))}"
            )
        natix = natix and self.layout != "plain"
        if self.drop_inconsistent and (not natix or "scene_description" not in names):
            raise table.error(
                'drop_inconsistent needs the layout natix with a column "scene_description"',
                f"it has {', '.join(sorted(names))}",
            )
        if natix and self.group_column is not None:
            raise table.error("group_column has no effect in the layout natix", 'take it out, or set layout = "plain"')
        return natix

    def _columns(self, table: ParquetTable, natix: bool) -> list[str]:
        asked = [self.label_column, *([self.group_column] if self.group_column else []), *self.tag_columns]
        for name in asked:
            table.column_type(name)
        if natix:
            asked += [name for name in table.schema.names if name.partition(".")[0] in _SCENE]
        return list(dict.fromkeys(asked))

    def _sample(
        self,
        table: ParquetTable,
        row: int,
        record: Mapping[str, Any],
        label: str,
        picture: Path,
        split: str | None,
        natix: bool,
    ) -> Sample:
        from .scenes import gps_of, scene_tags, sequence_of, text_of

        tags = {name: text for name in self.tag_columns if (text := text_of(record.get(name)))}
        group, gps, licence = None, None, None
        if natix:
            tags = {**scene_tags(record), **tags}
            group = sequence_of(tags)
            licence = record["license"] if isinstance(record.get("license"), str) else None
            try:
                gps = gps_of(record.get("gps"))
            except ValueError as error:
                raise table.row_error(row, f"gps: {error}", "leave it empty where unknown") from None
        elif self.group_column:
            group = text_of(record[self.group_column]) or None
        return Sample(
            path=picture,
            label=label,
            source=self.source,
            group=group,
            split=split,
            licence=licence or None,
            tags=tags,
            gps=gps,
        )


def _refuse_other_pictures(table: ParquetTable, column: str) -> None:
    import pyarrow.types as kinds

    found = table.column_type(column)
    text = kinds.is_string(found) or kinds.is_large_string(found)
    if text or kinds.is_binary(found) or kinds.is_large_binary(found):
        return
    if kinds.is_struct(found) and {found.field(i).name for i in range(found.num_fields)} & {"bytes", "path"}:
        return
    raise table.error(f'the column "{column}" is {found}, not pictures', "a struct of bytes and path, bytes, or paths")


def _label_reader(table: ParquetTable, column: str, *, use_names: bool) -> Any:
    """What makes a row number and a value of the label column text, or raises DataError."""
    import pyarrow.types as kinds

    found = table.column_type(column)
    value_type = found.value_type if kinds.is_dictionary(found) else found
    text = kinds.is_string(value_type) or kinds.is_large_string(value_type)
    if not (text or kinds.is_integer(value_type) or kinds.is_boolean(value_type)):
        raise table.error(f'the column "{column}" is {found}, not a label', "an integer, bool or text column is needed")
    names = table.class_names(column) if use_names else None

    def read(row: int, value: Any) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int):
            if names is None:
                return str(value)
            if not 0 <= value < len(names):
                raise table.row_error(row, f"label {value} has no name", f"the names are {', '.join(names)}")
            return str(names[value])
        if isinstance(value, str) and value.strip():
            return value.strip()
        raise table.row_error(row, f'"{column}" is empty', "fill it in, or remove the row")

    return read


def _each_once(samples: Sequence[Sample], ctx: DatasetContext) -> list[Sample]:
    """Samples without copies of one picture; of a picture with several labels, none."""
    labels: dict[Path, set[str]] = {}
    for sample in samples:
        labels.setdefault(sample.path, set()).add(sample.label)
    disputed = {path for path, held in labels.items() if len(held) > 1}
    kept = {sample.path: sample for sample in reversed(samples) if sample.path not in disputed}
    copies = sum(sample.path not in disputed for sample in samples) - len(kept)
    if copies:
        ctx.report(f"huggingface: left out {copies} copies of pictures that are already there")
    if disputed:
        ctx.report(f"huggingface: left out {len(disputed)} pictures that have several labels, such as {min(disputed)}")
    return [sample for sample in samples if kept.get(sample.path) is sample]
