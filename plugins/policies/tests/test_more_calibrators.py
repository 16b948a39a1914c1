"""Isotonic, vector and Dirichlet calibration against scikit-learn and optima found by scipy."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import sklearn.calibration
import sklearn.frozen
import sklearn.linear_model
from roadwork_policies import DirichletCalibration, IsotonicCalibration, VectorScaling
from roadwork_policies.calibrators import Isotonic
from roadwork_policies.linear_calibrators import DIAGONAL_RIDGE, LinearMap, fit_dirichlet, fit_vector
from sklearn.base import BaseEstimator, ClassifierMixin

from roadwork_core.errors import DataError
from roadwork_core.kinds import CalibratorContext
from roadwork_core.metrics import log_softmax, margin, nll, softmax

#: scikit-learn, whose stubs lag behind it.
oracle: Any = sklearn


class GivenMargins(ClassifierMixin, BaseEstimator):
    """A classifier whose inputs are two logits."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> GivenMargins:
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x[:, 1] - x[:, 0])

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x.argmax(axis=1))


def distorted(n: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, classes) of which each class is overconfident in its own measure and shifted, with labels."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(n, classes)) * 1.5
    labels = np.asarray([rng.choice(classes, p=p) for p in softmax(honest)])
    return honest * np.linspace(1.2, 2.5, classes) + np.linspace(0, 1.5, classes), labels


def test_isotonic_agrees_with_scikit_learn_but_for_its_zeros_and_ones() -> None:
    logits, labels = distorted(900, 2)
    fresh, _ = distorted(5000, 2, seed=1)
    model = oracle.frozen.FrozenEstimator(GivenMargins().fit(logits, labels))
    theirs = oracle.calibration.CalibratedClassifierCV(model, method="isotonic").fit(logits, labels)
    fitted = Isotonic.fit(logits, labels)
    expected, found = theirs.predict_proba(fresh)[:, 1], softmax(fitted.transform(fresh))[:, 1]
    low, high = fitted.probabilities[fitted.probabilities > 1 / 902].min(), 1 - 1 / 902
    inside = (expected >= low) & (expected < fitted.probabilities[fitted.probabilities < high].max())
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-12)
    np.testing.assert_allclose(found, expected, atol=1.2 / 902)
    assert 0.5 < inside.mean() < 1
    assert np.isin(expected, (0, 1)).any()
    assert (found > 0).all()
    assert (found < 1).all()


def test_isotonic_never_turns_an_order_round() -> None:
    logits, labels = distorted(300, 2, seed=2)
    order = np.argsort(margin(logits))
    assert (np.diff(margin(Isotonic.fit(logits, labels).transform(logits))[order]) >= 0).all()


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (np.asarray([0, 1, 2]), 3, 'use = "dirichlet"'),
        (np.asarray([1, 1, 1]), 2, "of one class"),
        (np.asarray([1, 1, 0]), 2, "higher margin does not mean a likelier positive"),
    ],
)
def test_what_isotonic_cannot_be_fitted_to_is_a_clear_error(labels: np.ndarray, classes: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Isotonic.fit(np.arange(3.0)[:, None] * np.arange(classes), labels)


def penalised(parameters: np.ndarray, x: np.ndarray, y: np.ndarray, l2: float, full: bool) -> float:
    """The objective that `fit_vector` (not `full`) and `fit_dirichlet` state, written out anew."""
    classes = x.shape[1]
    weights = parameters[:-classes].reshape(classes, classes) if full else np.diag(parameters[:classes])
    intercept = parameters[-classes:]
    fit = nll(x @ weights.T + intercept, y)
    off = weights[~np.eye(classes, dtype=bool)]
    ridge = DIAGONAL_RIDGE * np.sum((np.diag(weights) - 1) ** 2)
    return float(fit + l2 * (np.mean(off**2) * full + np.mean(intercept**2)) + ridge)


@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize("full", [False, True])
def test_the_linear_calibrators_reach_the_optimum_that_scipy_finds(classes: int, full: bool) -> None:
    logits, labels = distorted(500, classes)
    l2 = 1e-2
    found = (fit_dirichlet if full else fit_vector)(logits, labels, l2)
    x = log_softmax(logits) if full else logits
    start = np.append(np.eye(classes).ravel() if full else np.ones(classes), np.zeros(classes))
    theirs = scipy.optimize.minimize(
        penalised, start, (x, labels, l2, full), method="L-BFGS-B", options={"ftol": 1e-14}
    )
    weights = found.weights.ravel() if full else np.diag(found.weights)
    ours = penalised(np.append(weights, found.intercept), x, labels, l2, full)
    assert ours <= theirs.fun + 1e-9
    assert ours < penalised(start, x, labels, l2, full) - 0.02


def test_dirichlet_without_a_penalty_is_the_multinomial_regression_of_scikit_learn() -> None:
    logits, labels = distorted(800, 3, seed=3)
    x = log_softmax(logits)
    theirs = oracle.linear_model.LogisticRegression(C=np.inf, tol=1e-10, max_iter=5000).fit(x, labels)
    ours = softmax(fit_dirichlet(logits, labels, 1e-9).transform(logits))
    np.testing.assert_allclose(ours, theirs.predict_proba(x), atol=5e-4)


def test_dirichlet_tells_apart_classes_that_are_taken_for_one_another_and_vector_cannot() -> None:
    rng = np.random.default_rng(4)
    logits = log_softmax(rng.normal(size=(6000, 3)) * 1.5)
    honest = logits @ np.asarray([[1.0, 0.0, 0.0], [-0.8, 1.0, 0.0], [0.0, 0.5, 1.0]]).T
    labels = np.asarray([rng.choice(3, p=p) for p in softmax(honest)])
    found = [nll(fit(logits, labels, 1e-4).transform(logits), labels) for fit in (fit_vector, fit_dirichlet)]
    assert found[1] < found[0] - 0.005
    assert found[1] == pytest.approx(nll(honest, labels), abs=0.005)


@pytest.mark.parametrize("fit", [fit_vector, fit_dirichlet])
def test_separable_samples_and_absent_classes_stay_finite(fit: Callable[..., LinearMap]) -> None:
    logits, labels = 5 * np.eye(4)[[0, 1, 2, 2, 1]], np.asarray([0, 1, 2, 2, 1])
    found = fit(logits, labels, 1e-3)
    assert np.isfinite(found.weights).all()
    assert np.isfinite(found.intercept).all()
    assert np.array_equal(found.transform(logits).argmax(axis=1), labels)


@pytest.mark.parametrize("component", [IsotonicCalibration(), VectorScaling(), DirichletCalibration()])
def test_a_calibrator_survives_json_exactly_and_a_row_alone_is_the_row_in_its_batch(component: Any) -> None:
    logits, labels = distorted(200, 2, seed=6)
    fitted = component.build(CalibratorContext(logits=logits, labels=labels))
    again = component.restore(json.loads(json.dumps(fitted.state())))
    whole = fitted.transform(logits)
    assert np.array_equal(whole, again.transform(logits))
    assert np.array_equal(whole, np.concatenate([fitted.transform(row[None]) for row in logits]))
    with pytest.raises(DataError, match="no samples"):
        component.build(CalibratorContext(logits=np.empty((0, 2)), labels=np.empty(0, dtype=np.int64)))


@pytest.mark.parametrize(
    ("component", "state"),
    [
        (IsotonicCalibration(), {"margins": [0.0, 0.0], "probabilities": [0.1, 0.2]}),
        (IsotonicCalibration(), {"margins": [0.0, 1.0], "probabilities": [0.2, 0.1]}),
        (IsotonicCalibration(), {"margins": [0.0, 1.0], "probabilities": [0.0, 0.1]}),
        (VectorScaling(), {"weights": [1.0, 1.0, 1.0], "intercept": [0.0, 0.0]}),
        (DirichletCalibration(), {"weights": [[1.0, float("nan")], [0.0, 1.0]], "intercept": [0.0, 0.0]}),
    ],
)
def test_a_calibrator_file_that_makes_no_sense_is_refused(component: Any, state: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"not an? (isotonic|linear) calibrator"):
        component.restore(state)
