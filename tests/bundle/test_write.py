"""Emission: the same inputs give the same bytes, and nothing is put into place that does not replay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch

from roadwork_core.bundle.deciding import decider_of
from roadwork_core.bundle.diff import diff
from roadwork_core.bundle.golden import choose
from roadwork_core.bundle.license import license_text
from roadwork_core.bundle.verify import verify
from roadwork_core.bundle.write import emit, serving_modes
from roadwork_core.errors import RoadworkError, VerificationError

from . import toy


def every_byte(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_inputs_give_the_same_bytes(pristine: Path, tmp_path: Path) -> None:
    assert every_byte(toy.make(tmp_path / "again")) == every_byte(pristine)


def test_an_emission_that_does_not_replay_leaves_nothing(tmp_path: Path) -> None:
    contents = toy.contents(tmp_path)
    expected = json.loads(json.dumps(contents.golden_expected))
    expected["logits"][0][0] += 1.0
    with pytest.raises(VerificationError, match="replaying image_0000"):
        emit(attrs.evolve(contents, golden_expected=expected), tmp_path / "out" / "toy", toy.plugins())
    assert list((tmp_path / "out").iterdir()) == []


def test_an_emission_with_an_unfit_manifest_leaves_nothing(tmp_path: Path) -> None:
    contents = toy.contents(tmp_path)
    with pytest.raises(VerificationError, match="active"):
        emit(attrs.evolve(contents, manifest={**contents.manifest, "active": "x"}), tmp_path / "o" / "t", toy.plugins())
    assert list((tmp_path / "o").iterdir()) == []


def test_a_bundle_is_never_overwritten(pristine: Path, tmp_path: Path) -> None:
    before = every_byte(pristine)
    with pytest.raises(RoadworkError, match="would be overwritten"):
        emit(toy.contents(tmp_path), pristine, toy.plugins())
    assert every_byte(pristine) == before


def test_what_an_interrupted_emission_left_is_cleared(tmp_path: Path) -> None:
    contents = toy.contents(tmp_path)
    (tmp_path / ".toy.new").mkdir()
    (tmp_path / ".toy.new" / "half").write_text("x")
    emit(contents, tmp_path / "toy", toy.plugins())
    assert not (tmp_path / ".toy.new").exists()
    assert verify(tmp_path / "toy", "replay", toy.plugins()).ok


def test_a_single_policy_makes_a_bundle_of_one(tmp_path: Path) -> None:
    policies = {"threshold": toy.policy_document("threshold", "cut")}
    bundle = toy.make(tmp_path, policies=policies, active="threshold", fallback=None)
    manifest = json.loads((bundle / "bundle.json").read_bytes())
    assert list(manifest["policies"]) == ["threshold"]
    assert (manifest["active"], manifest["fallback"], manifest["mode"]) == ("threshold", None, "fast")
    assert manifest["modes"] == {"fast": "threshold"}


def test_the_manifest_speaks_of_no_time_and_no_machine(pristine: Path) -> None:
    text = (pristine / "bundle.json").read_text()
    assert str(pristine.parent) not in text
    assert not {"created", "time", "date", "host"} & set(json.loads(text))


def test_the_active_policy_serves_its_own_mode() -> None:
    modes = {"a": "fast", "b": "fast", "c": "accurate"}
    assert serving_modes("b", modes) == {"fast": "b", "accurate": "c"}
    assert serving_modes("c", modes) == {"accurate": "c", "fast": "a"}


@pytest.mark.parametrize(
    ("license", "pattern"),
    [
        ("Apache-2.0", "SPDX-License-Identifier: Apache-2.0"),
        ("MIT", "SPDX-License-Identifier: MIT"),
        ("proprietary", "all rights reserved"),
        ("Proprietary", "all rights reserved"),
        ("House terms 3", "House terms 3"),
    ],
)
def test_the_licence_is_named(license: str, pattern: str) -> None:
    assert pattern in license_text(license)


def golden_decider(cut: float = 0.0, band: float = 1.0) -> Any:
    policies = {
        "threshold": toy.policy_document("threshold", "cut", cut=cut),
        "careful": toy.policy_document("careful", "band", cut=cut, band=band),
    }
    return decider_of(policies, toy.plugins(), active="careful", fallback="threshold", num_classes=2, positive=1)


def test_golden_pictures_have_firm_decisions_and_both_classes() -> None:
    rng = np.random.default_rng(0)
    margins = np.concatenate([rng.normal(0, 3, 300), [0.0, 1e-4, -1e-4, 1.0, 0.9999, -1.0001]])
    logits = np.stack([np.zeros_like(margins), margins], axis=1)
    labels = (margins + rng.normal(0, 1, len(margins)) > 0).astype(np.int64)
    decider = golden_decider()
    chosen = choose(logits, labels, decider, 8)
    assert len(set(chosen)) == 8
    assert set(labels[chosen]) == {0, 1}
    assert set(chosen) & set(range(300, 306)) == set()
    for name in decider.policies:
        for shift in (-1e-3, 1e-3):
            moved = logits[chosen] + np.array([0.0, shift])
            before = decider.decide(logits[chosen], policy=name).decisions
            after = decider.decide(moved, policy=name).decisions
            assert (before.labels == after.labels).all()


@pytest.mark.parametrize("n", [1, 2, 5])
def test_golden_pictures_of_few_samples_are_those_there_are(n: int) -> None:
    logits = np.zeros((n, 2))
    assert choose(logits, np.zeros(n, dtype=np.int64), golden_decider(), 8) == list(range(n))


def test_bundles_are_compared_key_by_key(pristine: Path, tmp_path: Path) -> None:
    policies = toy.standard_policies()
    policies["careful"] = toy.policy_document("careful", "band", band=1.5, member="threshold")
    policies["new"] = toy.policy_document("new", "cut")
    other = toy.make(tmp_path, policies=policies, active="threshold")
    before, after = (verify(path, "schema", toy.plugins()).bundle for path in (pristine, other))
    assert before is not None
    assert after is not None
    assert diff(before, before) == []
    found = {(item.document, item.key) for item in diff(before, after)}
    assert ("bundle.json", "active") in found
    assert ("bundle.json", "policies.new") in found
    assert ("policies/careful.json", "state.band") in found
    assert ("policies/new.json", "") in found
    assert ("golden/expected.json", "") in found
    assert not any(document.startswith("model/") for document, _ in found)
    lines = [str(item) for item in diff(before, after)]
    assert "~ bundle.json  active: careful -> threshold" in lines
    assert any(line.startswith("+ policies/new.json") for line in lines)


def test_weights_are_copied_byte_for_byte(tmp_path: Path) -> None:
    bundle = toy.make(tmp_path)
    assert (bundle / "model/weights.safetensors").read_bytes() == (tmp_path / "weights.safetensors").read_bytes()
    assert torch.get_default_dtype() == torch.float32
