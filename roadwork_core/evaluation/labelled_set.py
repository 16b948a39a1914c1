"""A labelled set from outside a run: listed, looked at, grouped, and labelled as a bundle knows its classes."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from attrs import frozen

from ..data.gather import BadImage, group, list_samples, look_at, rows_of
from ..errors import DataError, UsageError
from ..kinds import Kind
from ..spec import component_from_settings
from ..spec.model import Data, Splits

if TYPE_CHECKING:
    from ..console import Console
    from ..data.sample import Row, Sample
    from ..plugins import Plugins

#: The dataset component that reads a path, by the suffix of a file; a folder has none.
READERS = {"": "image_folder", ".csv": "manifest", ".tsv": "manifest", ".jsonl": "manifest"}
#: The option of that component which takes the path.
PATH_OPTION = {"image_folder": "root", "manifest": "path"}


@frozen(kw_only=True)
class LabelledSet:
    """Rows of the sample table, the pictures that could not be used, and the dataset's own splits that were left."""

    name: str
    rows: Sequence[Row]
    bad: Sequence[BadImage]
    splits: Sequence[str]


def dataset_for(where: str, settings: Sequence[str], plugins: Plugins) -> Any:
    """The dataset component for `--data`: of a folder or a manifest, or the component of that name.

    `settings` are its options, KEY=VALUE with a TOML value. Raises UsageError for what is neither a path nor the name
    of a dataset component, SpecError for a wrong option.
    """
    path = Path(where).expanduser()
    if path.exists():
        use = READERS.get("" if path.is_dir() else path.suffix.lower())
        if use is None:
            raise UsageError(
                f"cannot tell how to read a {path.suffix or 'file without suffix'}",
                path=path,
                hint=f"a folder with one folder per class, or a {', '.join(suffix for suffix in READERS if suffix)}",
            )
        values = {"use": use, PATH_OPTION[use]: str(path)}
        return component_from_settings(Kind.DATASET, values, settings, plugins)
    known = plugins.names(Kind.DATASET)
    if where in known:
        return component_from_settings(Kind.DATASET, {"use": where}, settings, plugins)
    near = difflib.get_close_matches(where, known, n=1)
    hint = f'did you mean the dataset "{near[0]}"?' if near else f"or a dataset component: {', '.join(known)}"
    raise UsageError("no such folder or manifest", path=where, hint=hint)


def read_labelled(
    component: Any,
    name: str,
    classes: Sequence[str],
    plugins: Plugins,
    console: Console,
    *,
    cache_dir: Path,
    splits: Sequence[str] = (),
    on_bad_image: Literal["error", "skip"] = "error",
    max_pixels: int,
    seed: int = 0,
) -> LabelledSet:
    """The samples of a dataset, of the dataset's own `splits` alone where some are named.

    Near-duplicates share a group, as in a run. What the dataset renders or fetches goes to `cache_dir`, and must stay
    there as long as the rows are read. Raises DataError for a label that is not among `classes`, a split that the data
    do not have, and pictures that cannot be used (unless `on_bad_image` is "skip").
    """
    data = Data(component=component, splits=Splits(), on_bad_image=on_bad_image, max_pixels=max_pixels)
    listed = list_samples(data.component, plugins, cache_dir=cache_dir, seed=seed, console=console)
    samples, left = _of_splits(listed, splits)
    _check_labels(samples, classes)
    looked = look_at(samples, data, cache=cache_dir / "looks.sqlite", console=console)
    grouped = group(looked, data)
    targets = np.array([list(classes).index(sample.label) for sample in looked.samples], dtype=np.int64)
    rows = rows_of(looked, targets, grouped.names, [name] * len(targets))
    return LabelledSet(name=name, rows=rows, bad=looked.bad, splits=left)


def _of_splits(samples: Sequence[Sample], wanted: Sequence[str]) -> tuple[list[Sample], list[str]]:
    counts = Counter(sample.split for sample in samples if sample.split)
    if not wanted:
        return list(samples), [f"{name} {count}" for name, count in counts.items()]
    if unknown := sorted(set(wanted) - set(counts)):
        has = ", ".join(f'"{name}" ({count})' for name, count in sorted(counts.items()))
        raise DataError(
            f'the data have no split "{unknown[0]}"',
            hint=f"they have {has}" if has else "they name no splits: leave out --split",
        )
    return [sample for sample in samples if sample.split in wanted], []


def _check_labels(samples: Sequence[Sample], classes: Sequence[str]) -> None:
    counts = Counter(sample.label for sample in samples)
    strange = sorted(set(counts) - set(classes))
    if not strange:
        return
    example = next(sample for sample in samples if sample.label == strange[0])
    raise DataError(
        f'the label "{strange[0]}" ({counts[strange[0]]} samples) is not a class of the bundle',
        path=example.path,
        hint=f'the bundle knows {", ".join(classes)}; for a manifest, --set \'labels={{ "{strange[0]}" = "..." }}\''
        " gives labels other names",
    )
