"""Whatever bundle.json holds, verification answers with failures: no exception, no hang, one clear line each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roadwork_core.bundle import verify
from roadwork_core.bundle.strict_json import MalformedJson, parse_json

from . import toy

ABSURD = {
    "empty": b"",
    "a byte": b"\x00",
    "not utf-8": b'{"a": "\xff"}',
    "a byte-order mark": b"\xef\xbb\xbf{}",
    "cut off": b'{"format_version": 1, "files": {',
    "an array": b"[]",
    "null": b"null",
    "a number": b"1",
    "deep arrays": b"[" * 200_000,
    "deep tables": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep and closed": b"[" * 5_000 + b"]" * 5_000,
    "nan": b'{"format_version": NaN}',
    "infinity": b'{"format_version": -Infinity}',
    "too large a number": b'{"format_version": 1e999}',
    "too many digits": b'{"format_version": ' + b"9" * 10_000 + b"}",
    "a key twice": b'{"format_version": 1, "format_version": 1}',
    "half a surrogate pair": b'{"name": "\\ud800"}',
    "half a surrogate pair as key": b'{"\\ud800": 1}',
    "too large": b'{"a": "' + b"x" * (5 * 2**20) + b'"}',
    "many problems": b"{" + b",".join(b'"k%d": 1' % index for index in range(50_000)) + b"}",
    "control characters": b'{"\\u001b[31m\\n": {"\\u0000": 1}}',
    "only braces in strings": b'{"' + b"[{" * 500 + b'": "\\"]]"}',
}


def failures(bundle: Path, content: bytes) -> list[str]:
    (bundle / "bundle.json").write_bytes(content)
    found = verify(bundle, "replay", toy.plugins())
    assert not found.ok
    return [str(problem) for problem in found.failures]


@pytest.mark.parametrize("name", ABSURD)
def test_an_absurd_manifest_is_refused_in_clear_lines(bundle: Path, name: str) -> None:
    lines = failures(bundle, ABSURD[name])
    assert 1 <= len(lines) <= 100
    for line in lines:
        assert line.startswith("bundle.json")
        assert line.isprintable()
        assert len(line) < 400


@pytest.mark.parametrize("name", ABSURD)
def test_what_cannot_be_read_is_one_line(bundle: Path, name: str) -> None:
    lines = failures(bundle, ABSURD[name])
    assert len(lines) <= (2 if ABSURD[name].startswith(b"{") else 1), lines


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[" * 65 + b"]" * 65, "nested deeper than 64"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "nested deeper than 64"),
        (b'{"a": 1, "b": {"c": 1, "c": 1}}', "the key 'c' is given twice"),
        (b"[1e999]", "1e999 is too large a number"),
        (b"[-1e999]", "-1e999 is too large a number"),
        (b"[NaN]", "NaN is not a JSON number"),
        (b"[Infinity]", "Infinity is not a JSON number"),
        (b"9" * 5000, "a number has too many digits"),
        (b'["\xff"]', "not UTF-8 (byte 2)"),
        (b'["\\udc00"]', "a string holds half of a surrogate pair"),
        (b'{"\\udc00": 1}', "a string holds half of a surrogate pair"),
        (b"{} {}", "not JSON: Extra data (line 1, column 4)"),
    ],
)
def test_each_kind_of_nonsense_has_its_reason(content: bytes, reason: str) -> None:
    with pytest.raises(MalformedJson) as raised:
        parse_json(content)
    assert str(raised.value) == reason


def test_what_is_as_deep_as_allowed_is_read() -> None:
    assert parse_json(b"[" * 64 + b"]" * 64) == json.loads("[" * 64 + "]" * 64)
    assert parse_json(b'["' + b"[" * 500 + b'\\""]') == ["[" * 500 + '"']


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += paths_of(item, (*path, key))
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_anywhere_in_any_document_is_answered(pristine: Path, tmp_path_factory: Any, data: Any) -> None:
    """Every value of every document, replaced by any JSON value and resealed by a forger, is judged and not tripped
    over, up to the replay."""
    document = data.draw(
        st.sampled_from(["bundle.json", "model/model.json", "policies/careful.json", "golden/expected.json"])
    )
    bundle = toy.copy(pristine, tmp_path_factory.mktemp("fuzz") / "bundle")
    value = json.loads((bundle / document).read_bytes())
    path = data.draw(st.sampled_from(paths_of(value)))
    target = value
    for key in path[:-1]:
        target = target[key]
    if isinstance(target, dict) and data.draw(st.booleans()):
        del target[path[-1]]
    else:
        target[path[-1]] = data.draw(JSON)
    (bundle / document).write_text(json.dumps(value))
    if document != "bundle.json":
        toy.reseal(bundle)
    elif isinstance(value.get("files"), dict):
        toy.edit(bundle / "bundle.json", reidentify)
    for problem in verify(bundle, "replay", toy.plugins()).failures:
        assert str(problem).isprintable()


def reidentify(manifest: dict[str, Any]) -> None:
    from roadwork_core.bundle.format import bundle_id

    manifest["bundle_id"] = bundle_id(manifest)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_answered(bundle: Path, content: bytes) -> None:
    assert failures(bundle, content)


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_what_json_writes_is_read_back(value: Any) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")) == json.loads(
        json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    )


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80) | st.text(alphabet='{}[]",:0123eE+-.truefalsn\\u ', max_size=60).map(str.encode))
def test_what_is_read_is_json_and_all_else_is_one_reason(content: bytes) -> None:
    try:
        value, reason = parse_json(content), None
    except MalformedJson as error:
        value, reason = None, str(error)
    assert (reason is not None and "\n" not in reason) or value == json.loads(content)
