"""One labelled image: what a dataset hands over, and one row of the prepared sample table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from attrs import Factory, frozen


@frozen(kw_only=True)
class Sample:
    """What a dataset says of one image.

    `group` ties samples that must stay in one split (frames of one sequence). `split` is the dataset's own split
    name where it has one. `tags` hold anything to group or slice by (sequence, weather, daytime, ...).
    """

    path: Path
    label: str
    source: str = ""
    group: str | None = None
    split: str | None = None
    licence: str | None = None
    tags: Mapping[str, str] = Factory(dict)
    gps: tuple[float, float] | None = None


def not_unicode(sample: Sample) -> str | None:
    """The field that holds lone surrogates (from a file name in other bytes, or a "\\ud800" of JSON), or None."""
    texts: dict[str, str | None] = {
        name: getattr(sample, name) for name in ("label", "group", "split", "source", "licence")
    }
    texts |= {f"tag {name!a}": f"{name}{value}" for name, value in sample.tags.items()}
    return next((name for name, text in texts.items() if text and not _encodes(text)), None)


def escaped(text: str) -> str:
    """Text that UTF-8 can hold: a file's name may be any bytes."""
    return text.encode(errors="backslashreplace").decode()


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@frozen(kw_only=True)
class Row:
    """One row of the prepared table: a sample that was decoded once, hashed, and given to a split.

    `index` is the sample's number in the whole table, `target` its class index; `group` is final (near-duplicates
    share one). `sha256` is of the file, `phash` 64 bits in hex of the decoded picture.
    """

    index: int
    path: str
    label: str
    target: int
    split: str
    group: str
    sha256: str
    phash: str
    width: int
    height: int
    source: str = ""
    licence: str | None = None
    tags: Mapping[str, str] = Factory(dict)
    gps: tuple[float, float] | None = None
