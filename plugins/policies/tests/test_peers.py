"""The same scores give the same bounds and sets as MAPIE, crepes and TorchCP, and where not, why."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from roadwork_policies import Conformal, Identity
from roadwork_policies.conformal import quantile
from roadwork_policies.nonconformity import aps, lac, raps
from sklearn.base import BaseEstimator, ClassifierMixin

from roadwork_core.metrics import softmax

N, FRESH, SEED = 800, 20_000, 5


class GivenLogits(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose inputs are its logits."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> GivenLogits:
        self.classes_ = np.arange(x.shape[1])
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return softmax(x)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x.argmax(axis=1))


def of_labels(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.asarray(np.take_along_axis(scores, labels[:, None], axis=1)[:, 0])


def mapie_sets(
    score: Any, logits: np.ndarray, labels: np.ndarray, fresh: np.ndarray, alpha: float
) -> tuple[float, np.ndarray, Any]:
    """MAPIE's bound, sets of `fresh`, and fitted score."""
    classification = pytest.importorskip("mapie.classification", reason="mapie is not installed")
    model = classification.SplitConformalClassifier(
        GivenLogits().fit(logits, labels),
        confidence_level=1 - alpha,
        conformity_score=score,
        prefit=True,
        random_state=SEED,
    )
    model.conformalize(logits, labels)
    params = {} if score == "lac" else {"include_last_label": "randomized"}
    _, sets = model.predict_set(fresh, conformity_score_params=params)
    fitted = model._mapie_classifier.conformity_score_function_
    return float(fitted.quantiles_[0]), sets[:, :, 0], fitted


@pytest.mark.parametrize(("classes", "alpha"), [(2, 0.1), (2, 0.05), (5, 0.1), (5, 0.15)])
def test_lac_has_the_bound_and_the_sets_of_mapie(
    classes: int, alpha: float, draw: Callable[..., Any], context: Callable[..., Any]
) -> None:
    (logits, labels), (fresh, _) = draw(N, classes=classes, scale=1.2), draw(FRESH, classes=classes, scale=1.2, seed=1)
    bound, sets, _ = mapie_sets("lac", logits, labels, fresh, alpha)
    policy = Conformal(alpha=alpha, calibrator=Identity()).build(context(logits, labels))
    assert 1 - policy.summary()["set_holds_labels_from"][0] == pytest.approx(bound, abs=1e-12)
    # MAPIE lets probabilities within 1e-8 of the bound in, which no sample here is but the one that made it.
    assert np.array_equal(policy.decide(fresh).sets, sets)


@pytest.mark.parametrize("alpha", [0.1, 0.2])
def test_aps_with_the_same_random_numbers_has_the_bound_and_the_sets_of_mapie(
    alpha: float, draw: Callable[..., Any]
) -> None:
    (logits, labels), (fresh, _) = draw(N, classes=5, scale=1.0), draw(FRESH, classes=5, scale=1.0, seed=1)
    bound, sets, _ = mapie_sets("aps", logits, labels, fresh, alpha)
    uniforms = np.random.RandomState(SEED).uniform(size=N), np.random.RandomState(SEED).uniform(size=FRESH)
    ours = quantile(of_labels(aps(logits, uniforms[0]), labels), alpha)
    assert 1 + ours == pytest.approx(bound, abs=1e-12)
    assert np.array_equal(aps(fresh, uniforms[1]) <= ours, sets)


def test_raps_with_the_same_penalty_and_random_numbers_has_the_bound_of_mapie(draw: Callable[..., Any]) -> None:
    """MAPIE keeps a tenth of the samples to choose penalty and rank; ours are options, so these are read off."""
    from sklearn.model_selection import StratifiedShuffleSplit

    logits, labels = draw(N, classes=8, scale=0.6)
    bound, _, fitted = mapie_sets("raps", logits, labels, logits[:10], 0.1)
    split = StratifiedShuffleSplit(n_splits=1, test_size=0.1, random_state=SEED)
    kept, _ = next(split.split(logits, labels))
    penalty, k_reg = float(np.ravel(fitted.lambda_star)[0]), int(np.ravel(fitted.k_star)[0])
    assert penalty > 0
    uniforms = np.random.RandomState(SEED).uniform(size=kept.size)
    ours = quantile(of_labels(raps(logits[kept], uniforms, penalty, k_reg), labels[kept]), 0.1)
    assert 1 + ours == pytest.approx(bound, abs=1e-12)


def crepes_sets(own: np.ndarray, table: np.ndarray, alpha: float) -> np.ndarray:
    crepes = pytest.importorskip("crepes", reason="crepes is not installed")
    model = crepes.ConformalClassifier()
    model.fit(own)
    return np.asarray(model.predict_set(table, confidence=1 - alpha, smoothing=False)).astype(bool)


@pytest.mark.parametrize("class_conditional", [False, True])
def test_sets_overall_and_within_classes_are_those_of_crepes_without_smoothing(
    class_conditional: bool, draw: Callable[..., Any], context: Callable[..., Any]
) -> None:
    alpha = 0.0977  # so that (n + 1) alpha is whole for no class
    (logits, labels), (fresh, _) = draw(N, classes=4, prior=0.4), draw(FRESH, classes=4, seed=1)
    policy = Conformal(alpha=alpha, class_conditional=class_conditional, calibrator=Identity())
    decided = policy.build(context(logits, labels)).decide(fresh).sets
    own, table = 1 - of_labels(softmax(logits), labels), 1 - softmax(fresh)
    if not class_conditional:
        assert np.array_equal(decided, crepes_sets(own, table, alpha))
        return
    for label in range(4):
        theirs = crepes_sets(own[labels == label], table[:, [label]], alpha)
        assert np.array_equal(decided[:, [label]], theirs)


def test_crepes_keeps_one_score_more_where_alpha_falls_on_a_rank(draw: Callable[..., Any]) -> None:
    """It takes labels with p >= alpha, split conformal prediction those with p > alpha: equal unless alpha (n + 1) is
    whole, where the p-value of a label just above the bound is alpha exactly."""
    logits, labels = draw(199)
    own, fresh = 1 - of_labels(softmax(logits), labels), 1 - softmax(draw(2000, seed=1)[0])
    ordered = np.sort(own)
    theirs = crepes_sets(own, fresh, 0.125)
    assert np.array_equal(theirs, fresh <= ordered[math.ceil(200 * 0.875) - 1 + 1])
    assert (theirs & ~(fresh <= quantile(own, 0.125))).any()


@pytest.fixture
def torchcp(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Modules of TorchCP's classification by name. Its packages are put in place without their own `__init__`, which
    imports graph networks that no score needs."""
    found = importlib.util.find_spec("torchcp")
    if found is None or not found.submodule_search_locations:
        pytest.skip("torchcp is not installed")
    home = Path(next(iter(found.submodule_search_locations)))
    for name in ("torchcp", "torchcp.classification"):
        package = ModuleType(name)
        package.__path__ = [str(home.joinpath(*name.split(".")[1:]))]
        monkeypatch.setitem(sys.modules, name, package)
    return lambda part: importlib.import_module(f"torchcp.classification.{part}")


@pytest.mark.parametrize("name", ["lac", "aps", "raps"])
def test_scores_without_random_numbers_are_those_of_torchcp(
    name: str, draw: Callable[..., Any], torchcp: Callable[[str], Any]
) -> None:
    import torch

    score = torchcp("score")
    logits, _ = draw(FRESH, classes=6, scale=1.0)
    theirs: Any = {
        "lac": lambda: score.LAC(),
        "aps": lambda: score.APS(randomized=False),
        "raps": lambda: score.RAPS(randomized=False, penalty=0.07, kreg=2),
    }[name]()
    ours = {
        "lac": lambda: 1 - 1 / (1 + np.exp(lac(logits))),
        "aps": lambda: 1 + aps(logits, None),
        "raps": lambda: 1 + raps(logits, None, 0.07, 2),
    }[name]()
    np.testing.assert_allclose(ours, theirs(torch.from_numpy(logits)).numpy(), atol=1e-12)


@pytest.mark.filterwarnings("ignore:The 'temperature' parameter is deprecated")
@pytest.mark.parametrize(
    ("score", "class_conditional"), [("lac", False), ("lac", True), ("aps", False), ("raps", False)]
)
def test_bounds_and_sets_overall_and_within_classes_are_those_of_torchcp(
    score: str,
    class_conditional: bool,
    draw: Callable[..., Any],
    context: Callable[..., Any],
    torchcp: Callable[[str], Any],
) -> None:
    import torch

    alpha = 0.0977
    (logits, labels), (fresh, _) = draw(N, classes=4, prior=0.4), draw(FRESH, classes=4, seed=1)
    options = Conformal(
        alpha=alpha,
        score=score,  # type: ignore[arg-type]
        class_conditional=class_conditional,
        randomized=False,
        penalty=0.07,
        k_reg=2,
        calibrator=Identity(),
    )
    scores, predictors = torchcp("score"), torchcp("predictor")
    theirs = {
        "lac": scores.LAC,
        "aps": lambda: scores.APS(randomized=False),
        "raps": lambda: scores.RAPS(randomized=False, penalty=0.07, kreg=2),
    }[score]()
    kind = predictors.ClassConditionalPredictor if class_conditional else predictors.SplitPredictor
    predictor = kind(score_function=theirs, alpha=alpha)
    predictor.calculate_threshold(torch.from_numpy(logits), torch.from_numpy(labels))
    if class_conditional:
        # It keeps its bounds in single precision, so that the sample at the bound falls to one side by chance.
        predictor.q_hat = predictor.q_hat.double() + 1e-7
    sets = predictor.predict_with_logits(torch.from_numpy(fresh)).numpy().astype(bool)
    policy = options.build(context(logits, labels))
    bounds = np.atleast_1d(np.asarray(predictor.q_hat, dtype=np.float64))
    mine = policy.bounds if score != "lac" else 1 / (1 + np.exp(-policy.bounds))
    shift = 0.0 if score == "lac" else 1.0
    np.testing.assert_allclose(mine + shift, np.broadcast_to(bounds, mine.shape), atol=3e-7)
    assert np.array_equal(policy.decide(fresh).sets, sets)
