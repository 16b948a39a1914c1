"""Setting and removing one key in a tree of nodes."""

from __future__ import annotations

from ..errors import Origin, Problem
from .hints import nearest
from .positions import parse_key
from .tree import KeyPath, Node, format_key


class EditError(Exception):
    """A key that cannot be set or removed; holds the one problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def set_key(node: Node, path: KeyPath, value: Node) -> Node:
    """The tree with `value` at `path`; missing tables are made, an array item must exist. Raises EditError."""
    return _set(node, path, value, 0)


def _set(node: Node, path: KeyPath, value: Node, depth: int) -> Node:
    if depth == len(path):
        return value
    part = path[depth]
    if isinstance(node.value, dict):
        child = node.value.get(part) or Node({}, value.origin, value.folder)
        return node.with_value({**node.value, part: _set(child, path, value, depth + 1)})
    if isinstance(node.value, list):
        index = _index(node, path, depth, value.origin)
        items = list(node.value)
        items[index] = _set(items[index], path, value, depth + 1)
        return node.with_value(items)
    raise _refused(path, value.origin, f"{format_key(path[:depth])} is not a table ({node.origin})")


def remove_key(node: Node, path: KeyPath, origin: Origin) -> Node:
    """The tree without `path`. Raises EditError where there is nothing of this name."""
    return _remove(node, path, origin, 0)


def _remove(node: Node, path: KeyPath, origin: Origin, depth: int) -> Node:
    part, last = path[depth], depth == len(path) - 1
    if isinstance(node.value, dict):
        if part not in node.value:
            names = [format_key((*path[:depth], key)) for key in node.value]
            raise _refused(path, origin, "is not set, so it cannot be unset", nearest(format_key(path), names))
        rest = {key: child for key, child in node.value.items() if key != part}
        if last:
            return node.with_value(rest)
        changed = _remove(node.value[part], path, origin, depth + 1)
        return node.with_value({key: changed if key == part else child for key, child in node.value.items()})
    if isinstance(node.value, list):
        index = _index(node, path, depth, origin)
        changed_items = [] if last else [_remove(node.value[index], path, origin, depth + 1)]
        return node.with_value([*node.value[:index], *changed_items, *node.value[index + 1 :]])
    raise _refused(path, origin, f"{format_key(path[:depth])} is not a table ({node.origin})")


def named_path(text: str, origin: Origin) -> KeyPath:
    """A dotted key in parts. Raises EditError."""
    try:
        return parse_key(text)
    except ValueError:
        raise EditError(
            Problem(f'"{text}" is not a key', origin=origin, hint="write a.b, or a.0.b in arrays")
        ) from None


def _index(node: Node, path: KeyPath, depth: int, origin: Origin) -> int:
    part, size = str(path[depth]), len(node.value)
    array = format_key(path[:depth])
    if not part.isdecimal():
        raise _refused(
            path, origin, f'{array} is an array: "{part}" is no index', f"write {array}.0 for its first item"
        )
    if int(part) >= size:
        raise _refused(path, origin, f"{array} has {size} item{'' if size == 1 else 's'}", "indices start at 0")
    return int(part)


def _refused(path: KeyPath, origin: Origin, message: str, hint: str | None = None) -> EditError:
    return EditError(Problem(message, key=format_key(path), origin=origin, hint=hint))
