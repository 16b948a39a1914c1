"""A checkpoint gives back exactly what it was given, is there whole or not at all, and holds no pickle."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from roadwork_core.errors import RoadworkError
from roadwork_core.training.checkpoint import from_json, read_checkpoint, to_json, write_checkpoint

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
nested = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(nested)
def test_state_survives_json_with_its_tuples_number_keys_and_infinities(value: Any) -> None:
    document = json.dumps(to_json(value, {}, "state"), allow_nan=False)
    assert repr(from_json(json.loads(document), {})) == repr(value)


def test_an_optimizer_goes_on_from_its_state_to_the_bit(tmp_path: Path) -> None:
    def make() -> tuple[nn.Linear, torch.optim.Optimizer]:
        torch.manual_seed(0)
        layer = nn.Linear(5, 3)
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)

    def step(layer: nn.Linear, optimizer: torch.optim.Optimizer, number: int) -> None:
        optimizer.zero_grad()
        layer(torch.full((2, 5), 0.1 * number)).square().sum().backward()
        optimizer.step()

    layer, optimizer = make()
    for number in range(4):
        step(layer, optimizer, number)
        if number == 1:
            tensors = dict(layer.state_dict())
            state = to_json(optimizer.state_dict(), tensors, "optimizer")
            write_checkpoint(tmp_path / "c.safetensors", {"optimizer": state}, tensors)
    other, resumed = make()
    found = read_checkpoint(tmp_path / "c.safetensors")
    assert found is not None
    other.load_state_dict({name: found.tensors[name] for name in ("weight", "bias")})
    resumed.load_state_dict(from_json(found.state["optimizer"], found.tensors))
    for number in (2, 3):
        step(other, resumed, number)
    assert torch.equal(layer.weight, other.weight)


def test_tensors_that_share_memory_or_are_views_are_kept_apart(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    write_checkpoint(tmp_path / "c", {}, {"a": whole, "b": whole, "row": whole[1], "turned": whole.T})
    found = read_checkpoint(tmp_path / "c")
    assert found is not None
    assert torch.equal(found.tensors["a"], whole)
    assert torch.equal(found.tensors["b"], whole)
    assert torch.equal(found.tensors["row"], whole[1])
    assert torch.equal(found.tensors["turned"], whole.T)


def test_a_write_that_dies_leaves_the_checkpoint_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c"
    write_checkpoint(path, {"step": 1}, {"w": torch.ones(3)})

    def dies(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", dies)
    with pytest.raises(OSError, match="no space"):
        write_checkpoint(path, {"step": 2}, {"w": torch.zeros(3)})
    found = read_checkpoint(path)
    assert found is not None
    assert found.state["step"] == 1
    assert found.tensors["w"].tolist() == [1.0, 1.0, 1.0]


def test_a_damaged_checkpoint_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "c"
    write_checkpoint(path, {}, {"w": torch.ones(300)})
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RoadworkError, match="cannot be read") as caught:
        read_checkpoint(path)
    assert caught.value.hint == "delete it to begin this stage anew"
    assert "\n" not in str(caught.value)


def test_no_file_is_no_checkpoint(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path / "c") is None


def test_what_only_a_pickle_could_hold_is_refused_by_name() -> None:
    with pytest.raises(RoadworkError, match=r"scheduler\.lambda is a function"):
        to_json({"lambda": lambda step: step}, {}, "scheduler")
