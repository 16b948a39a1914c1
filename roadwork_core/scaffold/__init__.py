"""Writes the package of a new plugin: one component of a kind, with the tests that hold it to its contract."""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path

from ..errors import UsageError
from ..files import write_atomic
from ..kinds import CONTRACTS, Kind

TEMPLATES = Path(__file__).with_name("templates")
LONGEST_NAME = 64
_SNAKE = re.compile(r"[a-z][a-z0-9_]*")


def write_plugin(kind: str, name: str, folder: Path) -> list[Path]:
    """Writes `folder/<name>` (pyproject.toml, source, tests, README) and returns the files written.

    Raises UsageError for an unknown kind, a name that is no snake_case, too long or that of a module
    that is installed, or a folder that is already there.
    """
    if kind not in list(CONTRACTS):
        raise UsageError(f"there is no kind {kind!r}", hint=f"kinds: {', '.join(CONTRACTS)}")
    if not _SNAKE.fullmatch(name) or keyword.iskeyword(name):
        raise UsageError(f"{name!r} cannot name a package", hint="write it in snake_case: my_loss")
    if len(name) > LONGEST_NAME:
        raise UsageError(f"a name of {len(name)} characters is too long", hint=f"at most {LONGEST_NAME}")
    if _is_taken(name):
        raise UsageError(f"{name!r} is the name of a module that is already installed", hint="choose another name")
    root = folder / name
    if root.exists():
        raise UsageError("is already there", path=root, hint="choose another name, or --dir")
    contents = plugin_files(Kind(kind), name)
    for path, text in contents.items():
        write_atomic(root / path, text.encode())
    return [root / path for path in contents]


def _is_taken(name: str) -> bool:
    """Whether a module of this name is there, which the new package would hide or be hidden by."""
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None


def plugin_files(kind: Kind, name: str) -> dict[str, str]:
    """The files of the package by their path in it."""
    source = TEMPLATES / kind
    files = {
        "pyproject.toml": _named((TEMPLATES / "pyproject.txt").read_text(), kind, name),
        "README.md": _named((TEMPLATES / "README.txt").read_text(), kind, name),
        f"src/{name}/py.typed": "",
    }
    for path in sorted(source.glob("*.py")):
        files[f"src/{name}/{path.name}"] = _named(path.read_text(), kind, name)
    test = source / "test.txt"
    test = test if test.is_file() else TEMPLATES / "test.txt"
    files["tests/test_conformance.py"] = _named(test.read_text(), kind, name)
    return files


def _takes_torch(kind: Kind) -> bool:
    return any("torch" in path.read_text() for path in (TEMPLATES / kind).glob("*.py"))


def _named(text: str, kind: Kind, name: str) -> str:
    title = "".join(part.capitalize() for part in name.split("_"))
    words = {
        "example": name,
        "Example": title,
        "TestExample": f"Test{title}",
        "example-distribution": name.replace("_", "-"),
        "KIND": str(kind),
        "REQUIRED": "roadwork[torch]" if _takes_torch(kind) else "roadwork",
        "CONTRACT": f"{kind.capitalize()}Contract",
    }
    # The longer names first: `example` is a part of `example-distribution`.
    pattern = "|".join(rf"\b{word}\b" for word in sorted(words, key=len, reverse=True))
    return re.sub(pattern, lambda match: words[match[0]], text)
