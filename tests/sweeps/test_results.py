"""The comparison of trials: figures and intervals against other implementations, importance against known effects."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef, roc_auc_score

from roadwork_core.errors import DataError
from roadwork_core.sweeps import Result, compare_trials
from roadwork_core.sweeps.importance import importance
from roadwork_core.sweeps.report import interval, render
from roadwork_core.sweeps.results import Interval, metric_of

N = 120


def make_run(folder: Path, name: str, quality: float, *, seed: int = 0, samples: str = "same") -> Result:
    """As much of a run as a comparison reads: val_select's logits, the classes, and prepare's manifest."""
    rng = np.random.default_rng(seed)
    truth = np.arange(N) % 2
    margins = quality * (2 * truth - 1) + rng.normal(size=N)
    path = folder / name
    (path / "score").mkdir(parents=True)
    (path / "prepare").mkdir()
    rows = [f"{i},{y},g{i // 2},0.0,{m!r}" for i, (y, m) in enumerate(zip(truth, margins.tolist(), strict=True))]
    (path / "score" / "val_select.csv").write_text("\n".join(["index,label,group,logit_0,logit_1", *rows]) + "\n")
    (path / "prepare" / "classes.json").write_text(json.dumps({"classes": ["a", "b"], "positive": 1}))
    manifest = {
        "stage": "prepare",
        "fingerprint": "f",
        "inputs": {},
        "outputs": {"samples/val_select.jsonl": {"sha256": samples, "size": 1}},
        "metrics": {},
        "started": "",
        "seconds": 0.0,
        "versions": {},
        "schema": "roadwork.stage/1",
    }
    (path / "prepare" / "manifest.json").write_text(json.dumps(manifest))
    return Result(name=name, run_dir=str(path), parameters={"x": quality})


def test_the_figure_is_the_metric_of_the_logits_and_the_best_is_chosen(tmp_path: Path) -> None:
    results = [make_run(tmp_path, f"t-{i}", quality) for i, quality in enumerate((0.2, 1.5, 0.8))]
    compared, best = compare_trials(results, "auroc", resamples=100, level=0.9)
    truth = np.arange(N) % 2
    for result, quality in zip(compared, (0.2, 1.5, 0.8), strict=True):
        margins = quality * (2 * truth - 1) + np.random.default_rng(0).normal(size=N)
        assert result.figure is not None
        assert result.figure.value == pytest.approx(roc_auc_score(truth, margins))
        assert result.figure.low < result.figure.value < result.figure.high
    assert best is not None
    assert best.name == "t-1"


def test_the_metric_with_a_cut_is_at_its_best_cut() -> None:
    truth = np.arange(N) % 2
    margins = 0.7 * (2 * truth - 1) + np.random.default_rng(3).normal(size=N)
    expected = max(matthews_corrcoef(truth, margins >= cut) for cut in margins)
    found = metric_of("mcc", np.stack([np.zeros(N), margins], axis=1), truth, 1)
    assert found == pytest.approx(expected)


def test_less_is_better_for_nll(tmp_path: Path) -> None:
    results = [make_run(tmp_path, f"t-{i}", quality) for i, quality in enumerate((0.1, 1.2))]
    compared, best = compare_trials(results, "nll", resamples=100, level=0.9)
    figures = [result.figure.value for result in compared if result.figure]
    assert best is not None
    assert best.figure is not None
    assert best.figure.value == min(figures)


def test_the_same_scores_do_not_differ_and_paired_intervals_are_narrow(tmp_path: Path) -> None:
    results = [make_run(tmp_path, f"t-{i}", quality) for i, quality in enumerate((0.8, 0.8, 0.75))]
    compared, best = compare_trials(results, "auroc", resamples=200, level=0.9)
    assert best is not None
    assert best.name == "t-0"
    assert compared[1].difference == Interval(value=0.0, low=0.0, high=0.0)
    near, figure = compared[2].difference, compared[2].figure
    assert near is not None
    assert figure is not None
    assert near.high - near.low < (figure.high - figure.low) / 3


def test_a_failed_trial_has_no_figure_and_is_never_the_best(tmp_path: Path) -> None:
    failed = Result(name="t-0", run_dir=str(tmp_path / "none"), parameters={"x": 1.0}, code=3, error="nan")
    compared, best = compare_trials([failed, make_run(tmp_path, "t-1", 0.1)], "mcc", resamples=100, level=0.9)
    assert best is not None
    assert best.name == "t-1"
    assert compared[0] == failed
    assert compare_trials([failed], "mcc", resamples=100, level=0.9) == ([failed], None)


def test_trials_on_other_samples_are_not_compared(tmp_path: Path) -> None:
    results = [make_run(tmp_path, "t-0", 1.0), make_run(tmp_path, "t-1", 1.0, samples="others")]
    with pytest.raises(DataError, match="do not have the same val_select"):
        compare_trials(results, "mcc", resamples=100, level=0.9)


def grid(figures: dict[tuple[int, int], float]) -> list[Result]:
    return [
        Result(
            name=f"t-{a}{b}",
            run_dir="",
            parameters={"a": a, "b": b},
            figure=Interval(value=value, low=value, high=value),
        )
        for (a, b), value in figures.items()
    ]


def test_importance_is_the_share_of_each_main_effect() -> None:
    # y = 3 a + b on {0, 1, 2}^2: the variances of the two effects are as 9 to 1, and nothing is left.
    results = grid({(a, b): 3.0 * a + b for a, b in itertools.product(range(3), repeat=2)})
    found, note = importance(results)
    assert found is not None
    assert [entry["share"] for entry in found] == pytest.approx([0.9, 0.1])
    assert found[0]["p"] < 0.02
    assert "0%" in note


def test_a_pure_interaction_is_nobodys_main_effect() -> None:
    found, note = importance(grid({(a, b): float(a == b) for a, b in itertools.product(range(2), repeat=2)}))
    assert found is not None
    assert [entry["share"] for entry in found] == pytest.approx([0.0, 0.0])
    assert "100%" in note


def test_importance_is_not_made_up() -> None:
    whole = grid({(a, b): 3.0 * a + b for a, b in itertools.product(range(3), repeat=2)})
    for some in (whole[:-1], whole[:3], grid({(a, 0): float(a) for a in range(5)})):
        assert importance(some)[0] is None


def document(results: list[Result], best: Result | None) -> dict[str, object]:
    return {
        "name": "<b>toy</b>",
        "method": "grid",
        "metric": "mcc",
        "lower_is_better": False,
        "level": 0.95,
        "parameters": ["x"],
        "trials": [result.to_json() for result in results],
        "best": {**best.to_json(), "test": {"mcc": {"value": 0.5, "low": 0.4, "high": 0.6}}} if best else None,
        "importance": None,
        "importance_note": "Not computed.",
        "report": "",
    }


def test_the_report_needs_nothing_else_and_runs_nothing(tmp_path: Path) -> None:
    made = [make_run(tmp_path, f"t-{i}", quality) for i, quality in enumerate((0.2, 1.5))]
    failed = Result(name="t-2", run_dir="", parameters={"x": 9.0}, code=3, error="<script>alert(1)</script>")
    results, best = compare_trials([*made, failed], "mcc", resamples=100, level=0.9)
    page = render(document(results, best), ["x"])
    assert page == render(document(results, best), ["x"])
    for foreign in ("<script", "http://", "https://", "<b>toy"):
        assert foreign not in page
    assert page.count("<polyline") == 2
    assert best is not None
    assert best.figure is not None
    assert interval(best.figure.to_json()) in page


def test_a_report_without_a_finished_trial_says_so() -> None:
    failed = Result(name="t-0", run_dir="", parameters={"x": 9.0}, code=3, error="nan")
    assert "No trial finished" in render(document([failed], None))
