"""The scanner finds the key paths that tomli finds, on the lines where they were written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from roadwork_core.spec.positions import key_lines, parse_key
from roadwork_core.spec.tree import KeyPath, format_key

REPOSITORY = Path(__file__).parents[2]


def paths_of(values: Any, path: KeyPath = ()) -> set[KeyPath]:
    """Every table, key and array item, from tomli's own result."""
    found = {path} if path else set()
    members = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, item in members:
        found |= paths_of(item, (*path, key))
    return found


WORDS = st.one_of(
    st.sampled_from(["a", "b", "lr", "use", "1", "-", "0x1"]),
    st.text(alphabet="ab.#\"'=[]{} é\\\t\n", min_size=0, max_size=4),
)
SCALARS = st.sampled_from(
    [
        "1",
        "-1_000",
        "3e-4",
        "+inf",
        "nan",
        "true",
        "0xff",
        "1979-05-27 07:32:00",
        "1979-05-27T07:32:00Z",
        "07:32:00",
        '""',
        "''",
        '"a # = [ b"',
        r'"\" \\ é"',
        r"'\ \"'",
        '"""one line"""',
        '"""\na = 1\n[x]\n"""',
        '"""ends in quotes"""""',
        r'"""a \""" b \\"""',
        "'''\n# [no] = '' \"\n'''",
        "'''it's'''''",
    ]
)
COMMENTS = st.sampled_from(["", "  # note", "# a = [1", '\t# """'])


class Writer:
    """Writes random TOML, and notes the line of every path as it goes: it shares nothing with the scanner."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.text = ""
        self.lines: dict[KeyPath, int] = {}

    @property
    def line(self) -> int:
        return self.text.count("\n") + 1

    def note(self, path: KeyPath) -> None:
        assert path not in self.lines
        self.lines[path] = self.line

    def put(self, *parts: str) -> None:
        self.text += "".join(parts)

    def blanks(self, breaks: bool) -> None:
        options = ["", " ", "\t", *(["\n", " # [c] = ' {\n", "\n\n  "] if breaks else [])]
        self.put(self.draw(st.sampled_from(options)))

    def key(self, name: str) -> None:
        bare = name.isascii() and name.replace("-", "a").replace("_", "a").isalnum()
        styles = [json.dumps(name, ensure_ascii=self.draw(st.booleans()))]
        if bare:
            styles.append(name)
        if "'" not in name and "\n" not in name:
            styles.append(f"'{name}'")
        self.put(self.draw(st.sampled_from(styles)))

    def dotted(self, path: KeyPath) -> None:
        for index, part in enumerate(path):
            if index:
                self.blanks(False)
                self.put(".")
                self.blanks(False)
            self.key(str(part))

    def names(self, count: int) -> list[str]:
        names: list[str] = self.draw(st.lists(WORDS, max_size=count, unique=True))
        return names

    def assignment(self, table: KeyPath, name: str, depth: int) -> None:
        more = self.draw(st.lists(WORDS, max_size=2)) if depth else []
        for size in range(1, len(more) + 2):
            self.note((*table, name, *more[: size - 1]))
        self.dotted((name, *more))
        self.blanks(False)
        self.put("=")
        self.blanks(False)
        self.value((*table, name, *more), depth)

    def value(self, path: KeyPath, depth: int) -> None:
        kind = self.draw(st.sampled_from(["scalar", "scalar", "array", "inline"] if depth else ["scalar"]))
        if kind == "scalar":
            self.put(self.draw(SCALARS))
        elif kind == "array":
            count = self.draw(st.integers(0, 3))
            self.put("[")
            for index in range(count):
                self.blanks(True)
                self.note((*path, index))
                self.value((*path, index), depth - 1)
                self.blanks(True)
                self.put("," if index < count - 1 or self.draw(st.booleans()) else "")
            self.blanks(True)
            self.put("]")
        else:
            names = self.names(3)
            self.put("{")
            for index, name in enumerate(names):
                self.blanks(False)
                self.assignment(path, name, depth - 1)
                self.blanks(False)
                self.put("," if index < len(names) - 1 else "")
            self.put("}")

    def body(self, path: KeyPath, taken: list[str]) -> None:
        for name in self.names(3):
            if name not in taken:
                taken.append(name)
                self.blanks(False)
                self.assignment(path, name, 2)
                self.put(self.draw(COMMENTS), "\n")

    def table(self, path: KeyPath, header: KeyPath, depth: int) -> None:
        taken: list[str] = []
        self.body(path, taken)
        for name in self.names(2 if depth else 0):
            if name in taken:
                continue
            taken.append(name)
            inner = (*header, name)
            if self.draw(st.booleans()):
                self.blanks(True)
                self.note((*path, name))
                self.header("[", inner, "]")
                self.table((*path, name), inner, depth - 1)
                continue
            for index in range(self.draw(st.integers(1, 3))):
                self.blanks(True)
                if index == 0:
                    self.note((*path, name))
                self.note((*path, name, index))
                self.header("[[", inner, "]]")
                self.table((*path, name, index), inner, depth - 1)

    def header(self, start: str, path: KeyPath, end: str) -> None:
        self.put(start)
        self.blanks(False)
        self.dotted(path)
        self.blanks(False)
        self.put(end, self.draw(COMMENTS), "\n")


@given(st.data())
@settings(max_examples=120, deadline=None)
def test_generated_toml_has_tomlis_paths_on_the_lines_where_they_were_written(data: st.DataObject) -> None:
    writer = Writer(data.draw)
    writer.table((), (), 2)
    try:
        values = tomli.loads(writer.text)
    except tomli.TOMLDecodeError as error:  # the writer itself is wrong
        pytest.fail(f"{error}\n{writer.text}")
    found = key_lines(writer.text)
    assert set(found) == paths_of(values)
    assert found == writer.lines


def real_files() -> list[Path]:
    """TOML that people wrote: this project's, and that of the packages that are installed beside it."""
    own = [path for path in REPOSITORY.rglob("*.toml") if not {".venv", "build", "runs"} & set(path.parts)]
    installed = sorted((Path(pytest.__file__).parents[1]).glob("*/**/*.toml"))[:60]
    return [*own, *installed, *REPOSITORY.glob("uv.lock")]


def test_real_files_have_tomlis_paths() -> None:
    files = real_files()
    assert files
    for path in files:
        try:
            values = tomli.loads(path.read_text(encoding="utf-8"))
        except (tomli.TOMLDecodeError, UnicodeDecodeError):
            continue
        assert set(key_lines(path.read_text(encoding="utf-8"))) == paths_of(values), path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b.c = 1\na.b.d = 2", {("a",): 1, ("a", "b"): 1, ("a", "b", "c"): 1, ("a", "b", "d"): 2}),
        ("[a.b]\nx = 1\n[a]\ny = 2", {("a",): 3, ("a", "b"): 1, ("a", "b", "x"): 2, ("a", "y"): 4}),
        ("[[a]]\n[a.b]\nc = 1\n[[a]]\n[a.b]", {("a",): 1, ("a", 0): 1, ("a", 0, "b"): 2, ("a", 0, "b", "c"): 3}
         | {("a", 1): 4, ("a", 1, "b"): 5}),
        ("a = [\n 1,\n # no\n [2,\n 3]]", {("a",): 1, ("a", 0): 2, ("a", 1): 4, ("a", 1, 0): 4, ("a", 1, 1): 5}),
        ("\r\nx = 1\r\ny = '''\r\n\r\n'''\r\nz = 1", {("x",): 2, ("y",): 3, ("z",): 6}),
        ("", {}),
        ("# only this", {}),
    ],
)  # fmt: skip
def test_lines_of_a_few_texts(text: str, expected: dict[KeyPath, int]) -> None:
    assert key_lines(text) == expected


@given(st.lists(st.text(min_size=0, max_size=5).filter(lambda word: word.isprintable()), min_size=1, max_size=4))
def test_a_key_path_survives_being_written(parts: list[str]) -> None:
    assert parse_key(format_key(tuple(parts))) == tuple(parts)


@pytest.mark.parametrize("text", ["", "a.", ".a", "a b", "a = 1", "a\nb", '"a', "[a]", "a #"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_key(text)


@given(st.text(alphabet="ab=.[]{}\"'#,\n\\ 1", max_size=30))
@settings(max_examples=500)
def test_text_that_tomli_accepts_never_stops_the_scanner(text: str) -> None:
    try:
        values = tomli.loads(text)
    except tomli.TOMLDecodeError:
        return
    assert set(key_lines(text)) == paths_of(values)
