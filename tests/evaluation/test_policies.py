"""The policies of a bundle side by side."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import roadwork_datasets
from PIL import Image
from sklearn.metrics import matthews_corrcoef

from roadwork_core.cli import main
from roadwork_core.plugins import Plugins
from tests.bundle import toy

#: Margins and classes: careful abstains within 1 of its cut 0, bold cuts at 3.
PICTURES = [(4.0, 1), (2.0, 1), (0.5, 1), (-0.5, 0), (-4.0, 0), (2.5, 0), (5.0, 1), (-6.0, 0)] * 4


@pytest.fixture
def compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict:  # type: ignore[type-arg]
    plugins = Plugins.of({"toy": toy.ToyPlugin(), "datasets": roadwork_datasets})
    monkeypatch.setattr(Plugins, "load", classmethod(lambda cls, only=None: plugins))
    bundle = toy.make(
        tmp_path / "made",
        policies={**toy.standard_policies(), "bold": toy.policy_document("bold", "cut", cut=3.0)},
    )
    rng = np.random.default_rng(0)
    for number, (margin, target) in enumerate(PICTURES):
        texture = np.kron(rng.integers(-20, 21, size=(5, 5)), np.ones((8, 8), dtype=np.int64))[..., None]
        pixels = np.clip(toy.picture(margin, size=(40, 40)).astype(np.int64) + texture, 0, 255).astype(np.uint8)
        path = tmp_path / "data" / toy.LABELS[target] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    arguments = ["bundle", "compare-policies", str(bundle), "--data", str(tmp_path / "data"), "--device", "cpu"]
    assert main([*arguments, "--bootstrap", "100"]) == 0
    text = capsys.readouterr().out
    assert "careful (active)" in text
    assert main([*arguments, "--bootstrap", "100", "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_every_policy_is_measured_on_the_same_pictures(compared: dict) -> None:  # type: ignore[type-arg]
    truth = np.array([target for _, target in PICTURES])
    margins = np.array([margin for margin, _ in PICTURES])
    policies = compared["policies"]
    assert set(policies) == {"threshold", "careful", "bold"}
    for name, cut in (("threshold", 0.0), ("bold", 3.0)):
        expected = matthews_corrcoef(truth, margins >= cut)
        assert policies[name]["must_answer"]["mcc"]["value"] == pytest.approx(expected)
        assert policies[name]["coverage"]["value"] == 1.0
    assert policies["careful"]["coverage"]["value"] == pytest.approx((np.abs(margins) >= 1).mean())
    change = policies["bold"]["difference"]["mcc"]["value"]
    assert change == pytest.approx(matthews_corrcoef(truth, margins >= 3) - matthews_corrcoef(truth, margins >= 0))
    assert policies["careful"]["difference"] is None
    assert all(entry["microseconds"] > 0 for entry in policies.values())


def test_agreement_counts_labels_and_abstentions(compared: dict) -> None:  # type: ignore[type-arg]
    margins = np.array([margin for margin, _ in PICTURES])
    pairs = {tuple(entry["policies"]): entry for entry in compared["agreement"]}
    bold = pairs["bold", "threshold"] if ("bold", "threshold") in pairs else pairs["threshold", "bold"]
    assert bold["same"]["value"] == pytest.approx(((margins >= 0) == (margins >= 3)).mean())
    assert bold["different_labels"] == ((margins >= 0) != (margins >= 3)).sum()
    careful = next(entry for names, entry in pairs.items() if set(names) == {"careful", "threshold"})
    assert careful["only_first_answers"] + careful["only_second_answers"] == (np.abs(margins) < 1).sum()
