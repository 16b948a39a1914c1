"""Parts of a set: each tag's values measured on their own, with what cannot be said left open."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, matthews_corrcoef

from roadwork_core.decisions import Decisions
from roadwork_core.evaluation.slices import by_tag
from roadwork_core.report.evaluation import Judge


def entries(tags: list[dict[str, str]], truth: np.ndarray, said: np.ndarray) -> dict[tuple[str, Any], dict[str, Any]]:
    judge = Judge(labels=truth, groups=None, classes=("a", "b"), positive=1, resamples=100)
    sets = said[:, None] == np.arange(2)
    decisions = Decisions(labels=said, scores=np.full(len(said), 0.5), sets=sets, reasons=[""] * len(said))
    return {(entry["tag"], entry["value"]): entry for entry in by_tag(judge, decisions, tags)}


def test_each_value_is_measured_on_its_own_samples() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 90)
    said = np.where(rng.random(90) < 0.2, 1 - truth, truth)
    weather = np.array(["rain", "fog", "sun"])[np.arange(90) % 3]
    found = entries([{"weather": str(value)} for value in weather], truth, said)
    assert list(found) == [("weather", "fog"), ("weather", "rain"), ("weather", "sun")]
    for (_, value), entry in found.items():
        mask = weather == value
        assert entry["n"] == 30
        assert entry["positives"] == truth[mask].sum()
        assert entry["metrics"]["accuracy"]["value"] == pytest.approx(accuracy_score(truth[mask], said[mask]))
        assert entry["metrics"]["mcc"]["value"] == pytest.approx(matthews_corrcoef(truth[mask], said[mask]))


def test_samples_without_the_tag_are_a_part_too() -> None:
    truth = np.arange(40) % 2
    found = entries([{"day": "night"} if n < 20 else {} for n in range(40)], truth, truth)
    assert [(key[1], entry["n"]) for key, entry in found.items()] == [("night", 20), (None, 20)]


def test_a_tag_that_names_samples_or_says_nothing_is_left_out() -> None:
    truth = np.arange(40) % 2
    assert entries([{"frame": str(n), "city": "one"} for n in range(40)], truth, truth) == {}


def test_few_samples_and_absent_classes_claim_nothing() -> None:
    truth = np.array([0] * 25 + [1] * 5)
    found = entries([{"day": "few" if n >= 25 else "many"} for n in range(30)], truth, truth)
    assert found["day", "few"]["metrics"] is None
    many = found["day", "many"]["metrics"]
    assert many["mcc"]["value"] is None
    assert many["recall"]["value"] is None
    assert many["specificity"]["value"] == 1.0
