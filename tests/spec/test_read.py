"""Files that are no TOML: one clear line each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import lines
from .toys import MINIMAL, resolve


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[loss]\nuse = "a"\nuse = "b"', '<text>:3: is not TOML: "use" is given twice (keep one of them)'),
        ("[loss]\n[head]\n[loss]", "<text>:3: is not TOML: [loss] is given twice (put its keys into one table)"),
        (
            "[train]\nepochs = 1\nepochs.b = 2",
            "<text>:3: is not TOML: epochs.b is given twice, or lies below a key that has a value (keep one of them)",
        ),
        (
            "[train]\nepochs = 1\n[train.epochs]",
            "<text>:3: is not TOML: [train.epochs] is given twice, or lies below a key that has a value"
            " (keep one of them)",
        ),
        ("a = 1\nb = foo", '<text>:2: is not TOML: invalid value (strings need quotes: "foo")'),
        ("a = [1,\n", "<text>:2: is not TOML: invalid value"),
        ("a = 1\nb = 'x\nc = 2\nd = 3", "<text>:2: is not TOML: a string in single quotes does not end"),
        ("a = '''x\nb = 2\n", "<text>:1: is not TOML: a string in single quotes does not end"),
        ("a = {b = 1, b = 2}", "<text>:1: is not TOML: duplicate inline table key 'b'"),
        ("a =" + "[" * 5000, "<text>: is nested too deeply"),
        ("a = 1\n[b\n", "<text>:2: is not TOML: expected ']' at the end of a table declaration"),
    ],
)
def test_wrong_toml_is_one_line(text: str, expected: str) -> None:
    assert lines(text) == [expected]


def test_depth_that_toml_takes_and_python_does_not_is_refused() -> None:
    assert lines(MINIMAL + "[train]\nepochs = " + "[" * 390 + "]" * 390)[0].startswith("<text>")


def test_an_integer_of_thousands_of_digits_is_refused() -> None:
    (line,) = lines("seed = " + "9" * 5000)
    assert line == "<text>: is not TOML: an integer in it has thousands of digits"


def test_files_that_cannot_be_read(write: Callable[[str, str], Path], tmp_path: Path) -> None:
    write("there.toml", MINIMAL)
    assert lines(Path("absent.toml")) == ["absent.toml: the file does not exist"]
    assert lines(Path()) == [".: is a folder, not a TOML file"]
    Path("latin.toml").write_bytes(b'name = "a"\ndescription = "caf\xe9"\n')
    assert lines(Path("latin.toml")) == ["latin.toml:2: is not UTF-8, which TOML must be"]
    Path("marked.toml").write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    resolved = resolve(Path("marked.toml"))
    assert str(resolved.origin("data.root")) == "marked.toml:5"


def test_a_str_is_a_path_unless_it_can_only_be_toml(write: Callable[[str, str], Path]) -> None:
    write("spec.toml", MINIMAL)
    assert resolve("spec.toml").source == "spec.toml"
    assert resolve(MINIMAL).source == "<text>"
