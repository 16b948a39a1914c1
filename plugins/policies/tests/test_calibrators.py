"""Calibrators reach their optimum, against grids and scikit-learn."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import sklearn.calibration
import sklearn.frozen
import sklearn.linear_model
from hypothesis import given, settings
from hypothesis import strategies as st
from roadwork_policies import BetaCalibration, Identity, Platt, Temperature
from roadwork_policies.calibrators import Affine, Beta, Scaled, logistic_fit
from sklearn.base import BaseEstimator, ClassifierMixin

from roadwork_core.errors import DataError
from roadwork_core.kinds import CalibratorContext
from roadwork_core.metrics import margin, nll, softmax

#: scikit-learn, whose stubs lag behind it.
oracle: Any = sklearn


class GivenLogits(ClassifierMixin, BaseEstimator):
    """A classifier whose inputs are its logits."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> GivenLogits:
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return x[:, 1] - x[:, 0] if x.shape[1] == 2 else x

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x.argmax(axis=1))


def overconfident(n: int, true_t: float, classes: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(n, classes)) * 2
    labels = np.asarray([rng.choice(classes, p=p) for p in softmax(honest)])
    return honest * true_t, labels


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("true_t", [0.4, 1.8, 2.82])
def test_temperature_reaches_the_optimum_of_a_fine_grid(true_t: float, classes: int) -> None:
    logits, labels = overconfident(1500, true_t, classes)
    fitted = Scaled.fit(logits, labels)
    grid = np.exp(np.linspace(np.log(fitted.temperature) - 0.2, np.log(fitted.temperature) + 0.2, 401))
    assert nll(fitted.transform(logits), labels) <= min(nll(logits / t, labels) for t in grid)
    assert fitted.temperature == pytest.approx(true_t, rel=0.15)


@pytest.mark.parametrize("classes", [2, 4])
def test_temperature_agrees_with_scikit_learn(classes: int) -> None:
    logits, labels = overconfident(800, 2.2, classes, seed=1)
    model = oracle.frozen.FrozenEstimator(GivenLogits().fit(logits, labels))
    theirs = oracle.calibration.CalibratedClassifierCV(model, method="temperature").fit(logits, labels)
    ours = softmax(Scaled.fit(logits, labels).transform(logits))
    np.testing.assert_allclose(ours, theirs.predict_proba(logits), atol=2e-4)


def test_platt_agrees_with_scikit_learn() -> None:
    logits, labels = overconfident(800, 2.2, seed=2)
    logits[:, 1] += 1.5
    model = oracle.frozen.FrozenEstimator(GivenLogits().fit(logits, labels))
    theirs = oracle.calibration.CalibratedClassifierCV(model, method="sigmoid").fit(logits, labels)
    ours = softmax(Affine.fit(logits, labels).transform(logits))
    np.testing.assert_allclose(ours, theirs.predict_proba(logits), atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 8.0), st.integers(2, 4))
def test_temperature_never_worsens_the_likelihood_it_was_fitted_to(seed: int, true_t: float, classes: int) -> None:
    logits, labels = overconfident(40, true_t, classes, seed)
    assert nll(Scaled.fit(logits, labels).transform(logits), labels) <= nll(logits, labels) + 1e-12


def test_temperature_stops_at_its_bounds_where_the_optimum_lies_beyond() -> None:
    logits, labels = np.asarray([[0.0, 1.0], [1.0, 0.0]]), np.asarray([1, 0])
    assert Scaled.fit(logits, labels).temperature == pytest.approx(0.01)
    assert Scaled.fit(logits, 1 - labels).temperature == pytest.approx(100.0)


def test_logits_that_say_nothing_keep_their_scale() -> None:
    assert Scaled.fit(np.zeros((4, 2)), np.asarray([0, 1, 1, 0])).temperature == 1.0


def test_platt_repairs_a_shifted_prior_that_temperature_cannot() -> None:
    rng = np.random.default_rng(3)
    labels = (rng.random(4000) < 0.05).astype(int)
    m = 2 * (rng.normal(size=4000) + 2 * labels)
    logits = np.stack([np.zeros(4000), m], axis=1)
    platt, scaled = (softmax(c.fit(logits, labels).transform(logits))[:, 1] for c in (Affine, Scaled))
    assert platt.mean() == pytest.approx(labels.mean(), abs=1e-3)
    assert scaled.mean() > 0.2


@given(st.floats(0.01, 1000.0), st.floats(-50.0, 50.0))
@settings(max_examples=40, deadline=None)
def test_platt_does_not_depend_on_the_scale_of_the_margin(scale: float, shift: float) -> None:
    logits, labels = overconfident(200, 1.0, seed=4)
    moved = logits * scale + np.asarray([0.0, shift * scale])
    first, second = (softmax(Affine.fit(z, labels).transform(z)) for z in (logits, moved))
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_platt_stays_finite_on_separable_samples() -> None:
    logits = np.asarray([[0.0, -3.0], [0.0, -2.0], [0.0, 2.0], [0.0, 3.0]])
    fitted = Affine.fit(logits, np.asarray([0, 0, 1, 1]))
    p = softmax(fitted.transform(logits))[:, 1]
    assert 0.1 < p[0] < 0.3
    assert 0.7 < p[3] < 0.9


@pytest.mark.parametrize("calibrator", [Affine, Beta])
def test_scores_that_rank_backwards_are_refused(calibrator: Any) -> None:
    logits, labels = overconfident(200, 1.0, seed=5)
    with pytest.raises(DataError, match="higher margin does not mean a likelier positive"):
        calibrator.fit(logits, 1 - labels)


def test_the_logistic_fit_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(8)
    x = rng.normal(size=(500, 2)) * [1.0, 30.0]
    y = (rng.random(500) < 1 / (1 + np.exp(-(x @ [1.0, 0.05] - 1)))).astype(float)
    target = np.clip(y, 0.01, 0.99)
    theirs = oracle.linear_model.LogisticRegression(C=np.inf, tol=1e-10, max_iter=5000)
    weights = np.concatenate([target, 1 - target])
    theirs.fit(np.vstack([x, x]), np.repeat([1, 0], 500), sample_weight=weights)
    np.testing.assert_allclose(logistic_fit(x, target), [*theirs.coef_[0], theirs.intercept_[0]], rtol=1e-4)


def test_beta_bends_where_one_side_is_overconfident_and_platt_cannot() -> None:
    rng = np.random.default_rng(9)
    m = rng.normal(size=6000) * 4
    true = np.where(m > 0, m, 0.3 * m)
    labels = (rng.random(6000) < 1 / (1 + np.exp(-true))).astype(np.int64)
    logits = np.stack([np.zeros(6000), m], axis=1)
    beta, platt = (margin(c.fit(logits, labels).transform(logits)) for c in (Beta, Affine))
    assert np.mean(np.abs(beta - true)) < 0.6 * np.mean(np.abs(platt - true))


@given(st.floats(0.01, 100.0), st.floats(-50.0, 50.0))
@settings(max_examples=30, deadline=None)
def test_beta_does_not_depend_on_the_scale_or_the_zero_of_the_margin(scale: float, shift: float) -> None:
    logits, labels = overconfident(200, 1.0, seed=4)
    moved = logits * scale + np.asarray([0.0, shift * scale])
    first, second = (softmax(Beta.fit(z, labels).transform(z)) for z in (logits, moved))
    np.testing.assert_allclose(first, second, atol=1e-6)


@pytest.mark.parametrize("component", [Temperature(), Platt(), BetaCalibration()])
def test_no_samples_are_a_clear_error(component: Any) -> None:
    with pytest.raises(DataError, match="no samples"):
        component.build(CalibratorContext(logits=np.empty((0, 2)), labels=np.empty(0, dtype=np.int64)))


def test_platt_names_the_alternative_for_more_classes() -> None:
    with pytest.raises(DataError, match='use = "temperature"'):
        Affine.fit(np.zeros((3, 3)), np.asarray([0, 1, 2]))


@pytest.mark.parametrize("component", [Identity(), Temperature(), Platt(), BetaCalibration()])
def test_a_calibrator_survives_json_exactly(component: Any) -> None:
    logits, labels = overconfident(100, 2.0, seed=6)
    fitted = component.build(CalibratorContext(logits=logits, labels=labels))
    again = component.restore(json.loads(json.dumps(fitted.state())))
    assert np.array_equal(fitted.transform(logits), again.transform(logits))


def test_calibrators_never_change_the_order_of_the_margins() -> None:
    logits, labels = overconfident(300, 2.0, seed=7)
    for calibrator in (Scaled, Affine, Beta):
        calibrated = margin(calibrator.fit(logits, labels).transform(logits))
        assert np.array_equal(np.argsort(calibrated), np.argsort(margin(logits)))
