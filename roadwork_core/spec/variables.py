"""`${env:X}`, `${spec_dir}` and `${a.b}` in the strings of a document; nothing else is a variable."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .findings import Findings
from .hints import nearest
from .positions import parse_key
from .tree import UNKNOWN, KeyPath, Node, format_key, walk

#: `$${` is a plain `${`; otherwise `${` opens a variable, which `}` ends.
_TOKEN = re.compile(r"\$\$\{|\$\{([^}\n]*)(\}?)")
_ENV = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")
_FORMS = "write ${env:NAME}, ${spec_dir} or ${a.b}; a plain ${ is written $${"


def escape(text: str) -> str:
    """The text written so that expanding it gives it back."""
    return text.replace("${", "$${")


def expand_variables(document: Node, env: Mapping[str, str], found: Findings) -> Node:
    """The document without variables. What cannot be expanded is UNKNOWN, with its problem in `found`.

    A string that is one `${a.b}` and nothing else takes that key's value with its type; inside a longer string the
    value must be a scalar. Values keep the origin of the place where the variable stands.
    """
    return _Expansion(document, env, found).node((), document)


def expand_place(entry: Node, key: str, env: Mapping[str, str], found: Findings) -> str | None:
    """A string that may hold `${env:X}` and `${spec_dir}` only, because no document is whole yet."""
    value = _Expansion(None, env, found).text((key,), entry)
    return None if value is UNKNOWN else str(value)


class _Expansion:
    def __init__(self, document: Node | None, env: Mapping[str, str], found: Findings) -> None:
        self.document = document
        self.env = env
        self.found = found
        self.done: dict[KeyPath, Node] = {}
        self.active: list[KeyPath] = []

    def node(self, path: KeyPath, node: Node) -> Node:
        if path in self.done:
            return self.done[path]
        if path in self.active:
            circle = [*self.active[self.active.index(path) :], path]
            message = f"variables refer to each other in a circle: {' -> '.join(map(format_key, circle))}"
            self.found.add(message, key=format_key(path), origin=node.origin)
            return node.with_value(UNKNOWN)
        self.active.append(path)
        value: Any = node.value
        if isinstance(value, dict):
            value = {key: self.node((*path, key), child) for key, child in value.items()}
        elif isinstance(value, list):
            value = [self.node((*path, index), child) for index, child in enumerate(value)]
        elif isinstance(value, str):
            value = self.text(path, node)
        self.active.pop()
        self.done[path] = node.with_value(value)
        return self.done[path]

    def text(self, path: KeyPath, node: Node) -> Any:
        """What the string of a node stands for: a string, or a value of another type, or UNKNOWN."""
        text: str = node.value
        tokens = list(_TOKEN.finditer(text))
        if len(tokens) == 1 and tokens[0].group() == text and text.startswith("${"):
            return self.variable(tokens[0], path, node)
        parts: list[str] = []
        position = 0
        unknown = False
        for token in tokens:
            parts.append(text[position : token.start()])
            position = token.end()
            value = "${" if token.group() == "$${" else self.variable(token, path, node)
            if isinstance(value, dict | list):
                self.refuse(
                    path,
                    node,
                    f"{token.group()} is {'a table' if isinstance(value, dict) else 'an array'}",
                    "inside a longer string only a string, number or boolean can stand",
                )
                value = UNKNOWN
            unknown |= value is UNKNOWN
            parts.append(_in_text(value))
        return UNKNOWN if unknown else "".join(parts) + text[position:]

    def variable(self, token: re.Match[str], path: KeyPath, node: Node) -> Any:
        name = token[1].strip()
        if not token[2]:
            return self.refuse(path, node, f"{token.group()} has no closing brace", _FORMS)
        if match := _ENV.fullmatch(name):
            if match[1] not in self.env:
                message = f"the environment variable {match[1]} is not set"
                return self.refuse(path, node, message, f"set {match[1]}, or give the value here")
            return self.env[match[1]]
        if name == "spec_dir":
            return str(node.folder)
        try:
            target = parse_key(name)
        except ValueError:
            return self.refuse(path, node, f"{token.group()} is no variable", _FORMS)
        if self.document is None:
            return self.refuse(path, node, f"{token.group()} cannot stand here", "only ${env:NAME} and ${spec_dir} can")
        found = self.target(target, self.document)
        if found is not None:
            return found.value
        if not self.found.whole:
            return UNKNOWN
        return self.refuse(path, node, f"{token.group()}: {name} is not set", self.hint(name, self.document))

    def target(self, target: KeyPath, document: Node) -> Node | None:
        """The expanded node that a reference names, through tables that are themselves references."""
        node: Node | None = document
        place: KeyPath = ()
        expanded = False
        for part in target:
            if node is None:
                return None
            if isinstance(node.value, str) and not expanded:
                node, expanded = self.node(place, node), True
            if node.value is UNKNOWN:
                return node
            place = (*place, int(part) if node.is_array and str(part).isdecimal() else part)
            node = node.child(part)
        return node if node is None or expanded else self.node(place, node)

    def hint(self, name: str, document: Node) -> str:
        keys = [format_key(key) for key, _ in walk(document.plain())]
        close = nearest(name, keys)
        if close and close.startswith("did"):
            return close
        return "only keys that are written can be referred to, not defaults"

    def refuse(self, path: KeyPath, node: Node, message: str, hint: str | None) -> Any:
        self.found.add(message, key=format_key(path), origin=node.origin, hint=hint)
        return UNKNOWN


def _in_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)
