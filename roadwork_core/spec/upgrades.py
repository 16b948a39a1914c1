"""The format's versions: how a spec of an earlier one becomes today's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from ..errors import Origin
from .edit import remove_key, set_key
from .findings import Findings
from .model import SPEC_VERSION
from .positions import parse_key
from .tree import Node

VERSION_KEY = "spec_version"

#: Turns a document of version v into one of version v + 1. It sees one file: a base is upgraded by itself.
Upgrade = Callable[[Node], Node]

#: The upgrade from each version to the next; version 1 is the first.
UPGRADES: Mapping[int, Upgrade] = MappingProxyType({})


def upgrade(
    document: Node,
    found: Findings,
    *,
    upgrades: Mapping[int, Upgrade] = UPGRADES,
    current: int = SPEC_VERSION,
) -> Node | None:
    """The document in the current version; a file that does not say has the current one.

    A version that is newer, older than the oldest known, or not an integer is added to `found`, and None comes
    back: nothing else in the file can be judged.
    """
    written = document.child(VERSION_KEY)
    if written is None:
        return document
    version = written.value
    if type(version) is not int:
        _refuse(found, written, f"must be an integer, got {version!r}", f"write {VERSION_KEY} = {current}")
        return None
    if version > current:
        reason = f"version {version} is newer than this roadwork knows ({current})"
        _refuse(found, written, reason, "upgrade roadwork")
        return None
    for step in range(version, current):
        if step not in upgrades:
            _refuse(found, written, f"version {version} is unknown", f"the current version is {current}")
            return None
        document = upgrades[step](document)
    return set_key(document, (VERSION_KEY,), written.with_value(current))


def rename_key(document: Node, old: str, new: str) -> Node:
    """Moves a key, where it is there, with its origin: the usual step of an upgrade."""
    path = parse_key(old)
    moved = document.find(path)
    if moved is None:
        return document
    return set_key(remove_key(document, path, Origin("upgrade")), parse_key(new), moved)


def _refuse(found: Findings, written: Node, message: str, hint: str) -> None:
    found.add(message, key=VERSION_KEY, origin=written.origin, hint=hint)
