"""Parquet files from a path or from the hub: data only, never a repository's code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from roadwork_core.data.natural import natural_key
from roadwork_core.errors import DataError, RoadworkError
from roadwork_core.extras import Requirement, how_to_install, require
from roadwork_core.kinds import Report

from .parquet import missing_shards

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PARQUET = ".parquet"


#: What fetching from the hub takes.
CLIENT = Requirement(
    ("huggingface_hub",),
    f"{how_to_install('hub', 'roadwork-datasets')}, or set data.path to a folder with the parquet files",
)


def is_of_hub(path: str) -> bool:
    """Whether this is no path here but looks like owner/name."""
    return not Path(path).expanduser().exists() and bool(_HUB_ID.fullmatch(path)) and not path.endswith(_PARQUET)


def parquet_files(path: str, revision: str | None, patterns: Sequence[str], report: Report) -> list[tuple[str, Path]]:
    """The files and their names below the data set's folder, in natural order.

    A path that exists is taken as it is; what looks like owner/name and is no path is asked from the hub. Raises
    DataError for a path without such files or with some of a series missing, RoadworkError for a data set that is
    neither in the hub's local cache nor reachable.
    """
    local = Path(path).expanduser()
    if local.exists():
        if revision is not None:
            raise DataError("revision is of a hub id, and this is a path", path=local, hint="take revision out")
        folder = local
    elif is_of_hub(path):
        folder = _fetch(path, revision, patterns)
        report(f"huggingface: {path} at {folder.name[:12]}")
    else:
        raise DataError("no such file or folder, and no hub id (owner/name)", path=path, hint="mend data.path")
    if folder.is_file():
        return [(folder.name, folder)]
    found = {
        file.relative_to(folder).as_posix(): file
        for pattern in patterns
        for file in folder.glob(pattern)
        if file.suffix == _PARQUET and file.is_file()
    }
    if not found:
        raise DataError(
            f"holds no parquet files that match {', '.join(patterns)}", path=folder, hint="mend data.path or data.files"
        )
    if gaps := missing_shards(list(found)):
        more = f" and {len(gaps) - 1} more" if len(gaps) > 1 else ""
        raise DataError(f"{gaps[0]}{more} missing from a series of files", path=folder, hint="fetch the whole data set")
    return sorted(found.items(), key=lambda item: natural_key(item[0]))


def _fetch(repository: str, revision: str | None, patterns: Sequence[str]) -> Path:
    require("a data set of the hub", [CLIENT])
    from huggingface_hub import snapshot_download

    wanted = [pattern.removeprefix("**/") for pattern in patterns]
    try:
        return Path(
            snapshot_download(
                repository,
                repo_type="dataset",
                revision=revision,
                allow_patterns=wanted,
            )
        )
    except (OSError, ValueError) as error:
        which = f'"{repository}"' + (f" at {revision}" if revision else "")
        fetch = f"hf download {repository} --repo-type dataset --include '*{_PARQUET}'"
        fetch += f" --revision {revision}" if revision else ""
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise RoadworkError(
            f"cannot get the data set {which}: it is neither in the local cache nor reachable on the hub ({first})",
            hint=f"with a network run `{fetch}` once, or set data.path to a folder with its parquet files",
        ) from None
