"""What lies in a bundle's folder, looked at without following any link out of it."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from ..errors import Origin, Problem
from .shape import shown

#: More entries than any bundle has; a folder with more is not looked through.
MAX_ENTRIES = 10_000
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def at(relative: str) -> Origin:
    """Where a problem is, as a path inside the bundle."""
    return Origin(shown(relative, 200))


def path_problem(path: str) -> str | None:
    """Why `path` may not be in a bundle's list of files, or None."""
    if path.startswith("/") or "\\" in path or re.match(r"[A-Za-z]:", path):
        return "is not a relative path with forward slashes"
    parts = path.split("/")
    if ".." in parts:
        return "leads out of the bundle"
    if not all(_PART.fullmatch(part) for part in parts) or len(path) > 255:
        return "is not a plain path of letters, digits, dots, hyphens and underscores"
    return None


@frozen
class Survey:
    """The plain files of a folder (path inside it to size in bytes), and everything that is not one."""

    files: Mapping[str, int]
    problems: tuple[Problem, ...]


def survey(root: Path) -> Survey:
    """Lists `root` wholly. Links (symbolic or hard), empty folders and special files become problems."""
    files: dict[str, int] = {}
    problems: list[Problem] = []
    pending = [""]
    entries = 0
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(root / folder) as listing:
                found = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            problems.append(Problem(f"cannot be listed: {error.strerror}", origin=at(folder or ".")))
            continue
        if not found and folder:
            problems.append(Problem("is an empty folder, which no bundle has", origin=at(folder)))
        for entry in found:
            entries += 1
            if entries > MAX_ENTRIES:
                problems.append(Problem(f"holds more than {MAX_ENTRIES} entries", origin=Origin(".")))
                return Survey(files, tuple(problems))
            path = f"{folder}/{entry.name}" if folder else entry.name
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                pending.append(path)
            elif problem := _not_plain(status):
                problems.append(Problem(problem, origin=at(path)))
            else:
                files[path] = status.st_size
    return Survey(files, tuple(problems))


def _not_plain(status: os.stat_result) -> str | None:
    if stat.S_ISLNK(status.st_mode):
        return "is a symbolic link; a bundle holds its files itself (copy with cp -rL)"
    if not stat.S_ISREG(status.st_mode):
        return "is not a plain file"
    if status.st_nlink > 1:
        return "is hard-linked from elsewhere, so it can change without this bundle (copy with cp -r)"
    return None


def read_bytes(root: Path, path: str, limit: int) -> bytes:
    """A file's content; raises OSError, also where it is a link or longer than `limit` bytes."""
    descriptor = os.open(root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(0, f"is larger than {limit} bytes")
    return content


def digest(root: Path, path: str) -> str:
    """sha256 in hex of a file, which must not be a link."""
    descriptor = os.open(root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def compare(root: Path, found: Survey, listed: Mapping[str, Any], manifest_name: str) -> Iterator[Problem]:
    """Every way in which the folder is not exactly the listed files with their sizes and digests."""
    yield from found.problems
    not_plain = {str(problem.origin) for problem in found.problems}
    folded: dict[str, str] = {}
    for path, entry in listed.items():
        if reason := path_problem(path):
            yield Problem(f"is listed but {reason}", origin=at(path))
            continue
        if (other := folded.setdefault(path.casefold(), path)) != path:
            yield Problem(f"differs from {other} only in case", origin=at(path))
        if path == manifest_name:
            yield Problem("lists itself", origin=at(path))
        elif path not in found.files:
            if path not in not_plain:
                yield Problem("is missing", origin=at(path))
        elif found.files[path] != entry["size"]:
            yield Problem(f"has {found.files[path]} bytes, not {shown(entry['size'])}", origin=at(path))
        else:
            yield from _digest_problem(root, path, entry["sha256"])
    for path in sorted(found.files.keys() - listed.keys() - {manifest_name}):
        yield Problem(f"is not listed in {manifest_name}", origin=at(path))


def _digest_problem(root: Path, path: str, expected: str) -> Iterator[Problem]:
    try:
        actual = digest(root, path)
    except OSError as error:
        yield Problem(f"cannot be read: {error.strerror}", origin=at(path))
        return
    if actual != expected:
        yield Problem("has changed: its sha256 is not the listed one", origin=at(path))
