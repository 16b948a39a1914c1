"""`extends` and `unset`: one document out of a file and its bases."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import Problem, SpecError
from .edit import EditError, named_path, remove_key
from .findings import Findings
from .read import read_file
from .tree import Node
from .upgrades import upgrade
from .variables import expand_place

#: Keys of a file that say how it is put together; no part of the spec itself.
CONSUMED = ("extends", "unset")


def load_document(path: Path, env: Mapping[str, str], found: Findings) -> Node | None:
    """The document of a file with its bases under it, or None where the file itself cannot be used."""
    return _load(path, (), env, found)


def compose(document: Node, place: Path, env: Mapping[str, str], found: Findings) -> Node | None:
    """The same for a document that was read already; its bases stand relative to the folder `place`."""
    return _compose(document, place, (), env, found)


def merge(base: Node, over: Node) -> Node:
    """`over` on top of `base`: tables merge key by key, anything else replaces."""
    if not (base.is_table and over.is_table):
        return over
    merged = dict(base.value)
    for key, child in over.value.items():
        merged[key] = merge(merged[key], child) if key in merged else child
    return over.with_value(merged)


def _load(path: Path, chain: Sequence[Path], env: Mapping[str, str], found: Findings) -> Node | None:
    try:
        document = read_file(path)
    except SpecError as error:
        found.problems += error.problems()
        return None
    return _compose(document, path.parent, (*chain, path), env, found)


def _compose(
    document: Node, place: Path, chain: Sequence[Path], env: Mapping[str, str], found: Findings
) -> Node | None:
    upgraded = upgrade(document, found)
    if upgraded is None:
        return None
    merged = upgraded.with_value({})
    bases = _strings(upgraded, "extends", found)
    for entry in bases:
        base = _base(entry, place, chain, env, found)
        if base is None:
            found.whole = False
        else:
            merged = merge(merged, base)
    for entry in _strings(upgraded, "unset", found):
        try:
            merged = remove_key(merged, named_path(entry.value, entry.origin), entry.origin)
        except EditError as error:
            if found.whole:
                found.problems.append(_about_unset(error.problem, has_bases=bool(bases)))
    own = {key: child for key, child in upgraded.value.items() if key not in CONSUMED}
    return merge(merged, upgraded.with_value(own))


def _base(entry: Node, place: Path, chain: Sequence[Path], env: Mapping[str, str], found: Findings) -> Node | None:
    written = expand_place(entry, "extends", env, found)
    if written is None:
        return None
    path = Path(os.path.normpath(place / written))
    if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises where a name is too long
        found.add(
            f'the base "{entry.value}" does not exist', key="extends", origin=entry.origin, hint=f"looked for {path}"
        )
        return None
    seen = [link.resolve() for link in chain]
    if path.resolve() in seen:
        circle = " -> ".join(map(str, [*chain[seen.index(path.resolve()) :], path]))
        found.add(f"files extend each other in a circle: {circle}", key="extends", origin=entry.origin)
        return None
    found.bases.add(str(path))
    return _load(path, chain, env, found)


def _strings(document: Node, key: str, found: Findings) -> list[Node]:
    """The strings of `extends` or `unset`: an array of them, or one alone."""
    node = document.child(key)
    if node is None:
        return []
    entries = node.value if node.is_array else [node]
    good = [entry for entry in entries if isinstance(entry.value, str)]
    if len(good) < len(entries):
        found.add("must be an array of strings", key=key, origin=node.origin, hint=f'write {key} = ["..."]')
    return good


def _about_unset(problem: Problem, *, has_bases: bool) -> Problem:
    hint = problem.hint if has_bases else "unset removes what a base sets; this file extends none"
    return Problem(f"unset: {problem.message}", key=problem.key, origin=problem.origin, hint=hint)
