"""`--set a.b=<TOML value>` and `--unset a.b`: the command line over the files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tomli

from ..errors import Origin, Problem
from .edit import EditError, named_path, remove_key, set_key
from .findings import Findings
from .merge import CONSUMED
from .positions import split_assignment
from .tree import KeyPath, Node, node_of


def apply_overrides(
    document: Node, settings: Sequence[str], unset: Sequence[str], folder: Path, found: Findings
) -> Node:
    """The document after every `--unset`, then every `--set`, in the order given. Problems go to `found`.

    A set value replaces what was there, also a table. `${spec_dir}` in it means `folder`.
    """
    for text in unset:
        origin = Origin(f"command line (--unset {text})")
        try:
            document = remove_key(document, named_path(text, origin), origin)
        except EditError as error:
            found.problems.append(error.problem)
    for text in settings:
        try:
            path, value = parse_setting(text, folder)
            document = set_key(document, path, value)
        except EditError as error:
            found.problems.append(error.problem)
    return document


def parse_setting(text: str, folder: Path) -> tuple[KeyPath, Node]:
    """The key path and the value of one `--set`. Raises EditError."""
    origin = Origin(f"command line (--set {text})")
    parts = split_assignment(text)
    if parts is None:
        raise EditError(Problem("is not KEY=VALUE", origin=origin, hint="for example --set train.epochs=3"))
    key, value = parts[0].strip(), parts[1].strip()
    path = named_path(key, origin)
    if path[0] in CONSUMED:
        message = f"{path[0]} belongs in a file, not on the command line"
        hint = "use --unset" if path[0] == "unset" else None
        raise EditError(Problem(message, key=key, origin=origin, hint=hint))
    try:
        document = tomli.loads(f"value = {value}")
    except (ValueError, RecursionError):
        document = {}
    if set(document) != {"value"}:
        raise EditError(Problem(f"{value!r} is not a TOML value", key=key, origin=origin, hint=_hint(key, value)))
    return path, node_of(document["value"], origin, folder)


def _hint(key: str, value: str) -> str:
    lowered = value.lower()
    if lowered in ("true", "false"):
        return f"write {key}={lowered}"
    if not value:
        return f"""write '{key}=""' for an empty string, or --unset {key}"""
    if any(mark in value for mark in "\"'\\\n"):
        return "a string needs TOML quotes, inside the shell's own"
    return f"""a string needs quotes: --set '{key}="{value}"'"""
