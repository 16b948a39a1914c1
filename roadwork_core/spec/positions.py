"""Where each key of a TOML text stands: a scanner that tomli does not have, for text that tomli has accepted."""

from __future__ import annotations

import bisect
import re

import tomli

from .tree import KeyPath

_BLANK = re.compile(r"[ \t]*")
_BLANK_LINES = re.compile(r"(?:[ \t\n]+|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BASIC = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_LITERAL = re.compile(r"'[^'\n]*'")
_LONG_BASIC = re.compile(r'"""(?:[^"\\]|\\[\s\S]|"(?!""))*"""(?:"{0,2})')
_LONG_LITERAL = re.compile(r"'''(?:[^']|'(?!''))*'''(?:'{0,2})")
_SCALAR = re.compile(r"[^,\]}\n#\"'][^,\]}\n#]*")


class NotTomlError(ValueError):
    """The scanner cannot go on; `line` is where it stands."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(f"{message} at line {line}")
        self.line = line


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line, from 1, of every key path of valid TOML: tables, keys and array items.

    A table's line is its header's; one that only dotted names imply has the line of the first of them.
    Raises NotTomlError for text that tomli refuses as well, though not for all of it.
    """
    scanner = _Scanner(text.replace("\r\n", "\n"))
    scanner.document()
    return scanner.lines


def parse_key(text: str) -> tuple[str, ...]:
    """A dotted TOML key, as `--set`, `--unset`, `unset` and `${a.b}` name one, in parts. Raises ValueError."""
    scanner = _Scanner(text.strip())
    parts = scanner.key()
    if scanner.position != len(scanner.text):
        raise ValueError(f"not a key: {text!r}")
    return parts


def split_assignment(text: str) -> tuple[str, str] | None:
    """`key=value` at the first `=` outside quotes, or None."""
    scanner = _Scanner(text)
    try:
        scanner.blank()
        scanner.key()
    except ValueError:
        return None
    if text[scanner.position : scanner.position + 1] != "=":
        return None
    return text[: scanner.position], text[scanner.position + 1 :]


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.lines: dict[KeyPath, int] = {}
        self._implied: set[KeyPath] = set()
        self._array_tables: dict[KeyPath, int] = {}
        self._breaks = [match.start() for match in re.finditer("\n", text)]

    def document(self) -> None:
        table: KeyPath = ()
        self.blank_lines()
        while self.position < len(self.text):
            line = self.line()
            if self.take("[["):
                table = self._array_table(self.header("]]"), line)
            elif self.take("["):
                table = self._resolve(self.header("]"), line)
                self.mark(table, line)
            else:
                self.assignment(table)
            self.blank_lines()

    def header(self, end: str) -> tuple[str, ...]:
        self.blank()
        parts = self.key()
        self.expect(end)
        return parts

    def _resolve(self, parts: tuple[str, ...], line: int) -> KeyPath:
        # A header continues the last item of each array of tables that it passes through.
        path: KeyPath = ()
        for part in parts:
            path = (*path, part)
            self.mark(path, line, implied=True)
            if path in self._array_tables:
                path = (*path, self._array_tables[path] - 1)
        return path

    def _array_table(self, parts: tuple[str, ...], line: int) -> KeyPath:
        path = (*self._resolve(parts[:-1], line), parts[-1])
        index = self._array_tables.get(path, 0)
        self._array_tables[path] = index + 1
        self.mark(path, line, implied=index > 0)
        self.mark((*path, index), line)
        return (*path, index)

    def mark(self, path: KeyPath, line: int, *, implied: bool = False) -> None:
        if implied:
            if path not in self.lines:
                self.lines[path] = line
                self._implied.add(path)
        elif path not in self.lines or path in self._implied:
            self.lines[path] = line
            self._implied.discard(path)

    def assignment(self, table: KeyPath) -> None:
        line = self.line()
        parts = self.key()
        self.expect("=")
        path = table
        for part in parts[:-1]:
            path = (*path, part)
            self.mark(path, line, implied=True)
        path = (*path, parts[-1])
        self.mark(path, line)
        self.blank()
        self.value(path)

    def key(self) -> tuple[str, ...]:
        parts = [self._key_part()]
        while True:
            self.blank()
            if not self.take("."):
                return tuple(parts)
            self.blank()
            parts.append(self._key_part())

    def _key_part(self) -> str:
        if raw := self.match(_BASIC):
            # tomli knows every escape.
            return raw[1:-1] if "\\" not in raw else next(iter(tomli.loads(f"{raw} = 0")))
        if raw := self.match(_LITERAL):
            return raw[1:-1]
        if raw := self.match(_BARE_KEY):
            return raw
        raise NotTomlError("no key", self.line())

    def value(self, path: KeyPath) -> None:
        if self.take("["):
            self._array(path)
        elif self.take("{"):
            self._inline_table(path)
        elif not any(map(self.match, (_LONG_BASIC, _LONG_LITERAL, _BASIC, _LITERAL, _SCALAR))):
            raise NotTomlError("no value", self.line())

    def _array(self, path: KeyPath) -> None:
        index = 0
        self.blank_lines()
        while not self.take("]"):
            self.mark((*path, index), self.line())
            self.value((*path, index))
            self._separator("]")
            index += 1

    def _inline_table(self, path: KeyPath) -> None:
        self.blank_lines()
        while not self.take("}"):
            self.assignment(path)
            self._separator("}")

    def _separator(self, end: str) -> None:
        self.blank_lines()
        if self.take(","):
            self.blank_lines()
        elif not self.text.startswith(end, self.position):
            raise NotTomlError(f"no {end}", self.line())

    def blank(self) -> None:
        self.match(_BLANK)

    def blank_lines(self) -> None:
        self.match(_BLANK_LINES)

    def match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.position)
        if found is None:
            return ""
        self.position = found.end()
        return found.group()

    def take(self, text: str) -> bool:
        if not self.text.startswith(text, self.position):
            return False
        self.position += len(text)
        return True

    def expect(self, text: str) -> None:
        self.blank()
        if not self.take(text):
            raise NotTomlError(f"no {text}", self.line())

    def line(self) -> int:
        return bisect.bisect_left(self._breaks, self.position) + 1
