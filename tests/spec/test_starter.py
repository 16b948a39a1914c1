"""What `spec new` writes is TOML, whatever the file is called."""

from __future__ import annotations

import tomllib

from hypothesis import example, given
from hypothesis import strategies as st

from roadwork_core.spec.starter import starter


@given(st.text(min_size=1))
@example("a\nb")
@example('a"b')
@example("x y")
def test_a_spec_is_named_after_its_file_and_toml(stem: str) -> None:
    written = tomllib.loads(starter(stem))
    assert written["name"]
    assert written["data"]["use"] == "image_folder"
