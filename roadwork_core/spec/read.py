"""Reads one TOML file into nodes that know their line."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import tomli

from ..errors import Origin, Problem, SpecError
from .positions import NotTomlError, key_lines
from .tree import KeyPath, Node

#: What a spec given as text is called in messages.
TEXT = "<text>"
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BARE_WORD = re.compile(r"[=,\[]\s*([A-Za-z_/~][^\s,\]}#\"']*)")
_DUPLICATE_TABLE = re.compile(r"Cannot declare \((.*?),?\) twice")


def read_file(path: Path) -> Node:
    """The document of a file. Raises SpecError: absent, unreadable, not UTF-8, not TOML."""
    shown = str(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise _failed("the file does not exist", Origin(shown)) from None
    except IsADirectoryError:
        raise _failed("is a folder, not a TOML file", Origin(shown)) from None
    except OSError as error:
        raise _failed(f"cannot be read: {error.strerror or error}", Origin(shown)) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _failed("is not UTF-8, which TOML must be", Origin(shown, line)) from None
    return read_text(text, shown, Path(os.path.abspath(path)).parent)  # noqa: PTH100 - keeps links as they are named


def read_text(text: str, source: str, folder: Path) -> Node:
    """The document of a text; `source` names it in messages. Raises SpecError where it is not TOML."""
    try:
        values = tomli.loads(text)
        lines = key_lines(text)
        return _nodes(values, (), lines, source, folder)
    except tomli.TOMLDecodeError as error:
        raise SpecError([_syntax_problem(text, error, source)]) from None
    except RecursionError:
        raise _failed("is nested too deeply", Origin(source)) from None
    except ValueError as error:
        # int() refuses thousands of digits with a plain ValueError.
        reason = "an integer in it has thousands of digits" if "digits" in str(error) else str(error)
        raise _failed(f"is not TOML: {reason}", Origin(source)) from None


def _nodes(values: Any, path: KeyPath, lines: dict[KeyPath, int], source: str, folder: Path) -> Node:
    origin = Origin(source, lines.get(path, 1))
    if isinstance(values, dict):
        values = {key: _nodes(item, (*path, key), lines, source, folder) for key, item in values.items()}
    elif isinstance(values, list):
        values = [_nodes(item, (*path, index), lines, source, folder) for index, item in enumerate(values)]
    return Node(values, origin, folder)


def _failed(message: str, origin: Origin) -> SpecError:
    return SpecError([Problem(message, origin=origin)])


def _stop(text: str, fallback: int) -> int:
    """The line where the scanner finds no more TOML."""
    try:
        key_lines(text)
    except NotTomlError as error:
        return error.line
    return fallback


def _syntax_problem(text: str, error: tomli.TOMLDecodeError, source: str) -> Problem:
    line, reason = error.lineno, error.msg
    written = text.replace("\r\n", "\n").split("\n")[line - 1].strip() if line else ""
    hint = None
    if reason.startswith("Expected \"'"):
        # tomli looks for the end of such a string to the end of the text.
        line, reason = _stop(text, line), "a string in single quotes does not end"
    if reason == "Cannot overwrite a value":
        key = written.split("=")[0].strip().strip('"')
        if _BARE_KEY.fullmatch(key):
            reason = f'"{key}" is given twice'
        else:
            reason = f"{key} is given twice, or lies below a key that has a value"
        hint = "keep one of them"
    elif match := _DUPLICATE_TABLE.match(reason):
        name = ".".join(part.strip().strip("'\"") for part in match[1].split(","))
        reason, hint = f"[{name}] is given twice", "put its keys into one table"
    elif reason == "Invalid value" and (match := _BARE_WORD.search(written)):
        hint = f'strings need quotes: "{match[1]}"'
    return Problem(f"is not TOML: {reason[:1].lower()}{reason[1:]}", origin=Origin(source, line), hint=hint)
