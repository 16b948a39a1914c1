"""Each loss against its paper in numpy, one sample at a time; the identities between them; slopes and extremes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from roadwork_losses import Asymmetric, ClassBalanced, CrossEntropy, Focal, Ldam, Poly, SoftMcc

from roadwork_core.errors import DataError
from roadwork_core.kinds import LossContext

Floats = NDArray[np.float64]
COUNTS = (700, 40, 5)
FAMILY = [
    CrossEntropy(label_smoothing=0.1),
    CrossEntropy(class_weights="balanced"),
    Focal(gamma=1.5),
    Poly(epsilon=2.0, gamma=0.5),
    Poly(epsilon=-1.0),
    ClassBalanced(beta=0.99, gamma=1.0),
    Asymmetric(gamma_positive=0.5, clip=0.1),
    Ldam(max_margin=0.7, scale=4.0),
    SoftMcc(),
    SoftMcc(cross_entropy=0.3),
]
SOFT = [component for component in FAMILY if getattr(component, "soft_targets", False)]


def build(component: Any, counts: tuple[int, ...] = COUNTS, positive: int = 1) -> Any:
    return component.build(LossContext(num_classes=len(counts), class_counts=np.array(counts), positive=positive))


def sample(classes: int = 3, seed: int = 0, n: int = 40) -> tuple[Floats, NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 2, (n, classes)), rng.integers(0, classes, n)


def run(component: Any, logits: Floats, labels: NDArray[np.int64], **surroundings: Any) -> Floats:
    loss = build(component, **surroundings)(torch.from_numpy(logits), torch.from_numpy(labels))
    assert loss.dtype is torch.float32
    value: Floats = loss.double().numpy()
    return value


def softmax(z: Floats) -> Floats:
    e: Floats = np.exp(z - z.max())
    result: Floats = e / e.sum()
    return result


def each(cost: Callable[[Floats, int], float], logits: Floats, labels: NDArray[np.int64]) -> list[float]:
    return [cost(z, int(y)) for z, y in zip(logits, labels, strict=True)]


@pytest.mark.parametrize(("epsilon", "gamma"), [(1.0, 0.0), (2.0, 0.0), (-1.0, 0.0), (0.7, 1.5)])
def test_poly_is_the_formula_of_the_paper(epsilon: float, gamma: float) -> None:
    def cost(z: Floats, y: int) -> float:
        p = float(softmax(z)[y])
        return (1 - p) ** gamma * -math.log(p) + epsilon * (1 - p) ** (gamma + 1)

    logits, labels = sample()
    np.testing.assert_allclose(
        run(Poly(epsilon=epsilon, gamma=gamma), logits, labels), each(cost, logits, labels), rtol=2e-5, atol=2e-6
    )


def test_poly_1_takes_the_first_term_of_cross_entropy_away_at_minus_one() -> None:
    """-log p = sum_j (1 - p)^j / j: with epsilon -1 the series begins at j = 2."""
    p = np.array([0.5, 0.7, 0.9])
    logits = np.stack([np.log(p), np.log(1 - p)], axis=1)
    series = sum((1 - p) ** j / j for j in range(2, 200))
    np.testing.assert_allclose(
        run(Poly(epsilon=-1.0), logits, np.zeros(3, dtype=np.int64), counts=(5, 5)), series, rtol=1e-5
    )


@pytest.mark.parametrize("beta", [0.9, 0.999, 0.9999])
def test_class_balanced_weighs_by_the_effective_number(beta: float) -> None:
    raw = [(1 - beta) / (1 - beta**n) for n in COUNTS]
    weights = np.array(raw) / sum(raw) * len(raw)

    def cost(z: Floats, y: int) -> float:
        p = float(softmax(z)[y])
        return float(weights[y]) * (1 - p) ** 0.5 * -math.log(p)

    logits, labels = sample()
    np.testing.assert_allclose(
        run(ClassBalanced(beta=beta, gamma=0.5), logits, labels), each(cost, logits, labels), rtol=3e-5
    )


@settings(max_examples=60, deadline=None)
@given(
    z=st.tuples(st.floats(-6, 6), st.floats(-6, 6)),
    y=st.integers(0, 1),
    gammas=st.tuples(st.floats(0, 5), st.floats(0, 5)),
    clip=st.floats(0, 0.3),
    positive=st.integers(0, 1),
)
def test_asymmetric_is_the_sigmoid_form_on_the_margin(
    z: tuple[float, float], y: int, gammas: tuple[float, float], clip: float, positive: int
) -> None:
    """The paper's L+ = (1 - p)^g+ log p and L- = p_m^g- log(1 - p_m), p_m = max(p - m, 0), p of the positive class."""
    p = 1 / (1 + math.exp(z[1 - positive] - z[positive]))
    shifted = max(p - clip, 0.0)
    expected = (
        -((1 - p) ** gammas[0]) * math.log(p) if y == positive else -(shifted ** gammas[1]) * math.log(1 - shifted)
    )
    component = Asymmetric(gamma_positive=gammas[0], gamma_negative=gammas[1], clip=clip)
    found = run(component, np.array([z]), np.array([y]), counts=(5, 5), positive=positive)[0]
    assert found == pytest.approx(expected, rel=1e-3, abs=2e-6)


def test_asymmetric_lets_easy_negatives_go_entirely() -> None:
    logits = np.log(np.array([[0.96, 0.04], [0.94, 0.06]]))
    loss = run(Asymmetric(clip=0.05), logits, np.array([0, 0]), counts=(5, 5))
    assert loss[0] == 0.0
    assert loss[1] > 0.0


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_ldam_is_the_formula_of_the_paper(scale: float) -> None:
    margins = np.array(COUNTS, dtype=float) ** -0.25
    margins *= 0.5 / margins.max()

    def cost(z: Floats, y: int) -> float:
        lowered = z.copy()
        lowered[y] -= margins[y]
        return float(np.logaddexp.reduce(scale * lowered) - scale * lowered[y])

    logits, labels = sample()
    np.testing.assert_allclose(run(Ldam(scale=scale), logits, labels), each(cost, logits, labels), rtol=1e-5, atol=1e-5)


def test_ldam_gives_the_rarest_class_the_margin_and_a_class_sixteen_times_larger_half_of_it() -> None:
    np.testing.assert_allclose(build(Ldam(max_margin=0.8), (160, 10, 20)).margins, [0.4, 0.8, 0.8 * 2**-0.25])


def test_deferred_reweighting_begins_with_the_epoch_that_is_named_and_not_before() -> None:
    logits, labels = (torch.from_numpy(part) for part in sample())
    plain, weighted = build(Ldam())(logits, labels), build(Ldam(beta=0.9999))(logits, labels)
    loss = build(Ldam(beta=0.9999, deferred=0.8))
    assert torch.equal(loss(logits, labels), plain)
    for epoch, expected in ((0, plain), (7, plain), (8, weighted), (9, weighted), (3, plain)):
        loss.begin_epoch(epoch, 10)
        assert torch.equal(loss(logits, labels), expected), epoch
    assert not torch.allclose(plain, weighted)


def test_weights_that_are_none_cannot_be_deferred() -> None:
    with pytest.raises(ValueError, match="beta"):
        Ldam(deferred=0.8)


@pytest.mark.parametrize("classes", [2, 4])
def test_soft_mcc_of_sure_answers_is_one_minus_the_coefficient(classes: int) -> None:
    from sklearn.metrics import matthews_corrcoef

    rng = np.random.default_rng(3)
    labels, answers = rng.integers(0, classes, (2, 200))
    answers[:90] = labels[:90]
    found = run(SoftMcc(), 200.0 * np.eye(classes)[answers], labels, counts=(1,) * classes)
    assert float(found) == pytest.approx(1 - matthews_corrcoef(labels, answers), abs=2e-5)


def test_soft_mcc_of_unsure_answers_is_that_of_the_soft_confusion_matrix() -> None:
    logits, labels = sample(2, n=60)
    p = np.array([softmax(z)[1] for z in logits])
    tp, fp = float(p[labels == 1].sum()), float(p[labels == 0].sum())
    fn, tn = float((1 - p)[labels == 1].sum()), float((1 - p)[labels == 0].sum())
    mcc = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert float(run(SoftMcc(), logits, labels, counts=(1, 1))) == pytest.approx(1 - mcc, abs=1e-5)


def test_soft_mcc_of_a_batch_of_one_class_pulls_nowhere_and_the_cross_entropy_does() -> None:
    logits = torch.tensor([[0.3, -0.2], [1.0, 0.5]], requires_grad=True)
    for component, pulls in ((SoftMcc(), False), (SoftMcc(cross_entropy=0.5), True)):
        loss = build(component, (1, 1))(logits, torch.tensor([1, 1]))
        (slope,) = torch.autograd.grad(loss, logits)
        assert bool(slope.abs().max() > 1e-3) is pulls
    assert build(SoftMcc(), (1, 1))(logits, torch.tensor([1, 1])).item() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Focal(gamma=0.0), CrossEntropy()),
        (Poly(epsilon=0.0), CrossEntropy()),
        (Poly(epsilon=0.0, gamma=2.0), Focal(gamma=2.0)),
        (ClassBalanced(beta=0.0), CrossEntropy()),
        (ClassBalanced(beta=0.0, gamma=2.0), Focal(gamma=2.0)),
        (Asymmetric(gamma_positive=2.0, gamma_negative=2.0, clip=0.0), Focal(gamma=2.0)),
        (Asymmetric(gamma_positive=0.0, gamma_negative=0.0, clip=0.0), CrossEntropy()),
        (Ldam(max_margin=0.0), CrossEntropy()),
    ],
)
def test_one_loss_is_another_at_its_edge_to_the_bit(one: Any, other: Any) -> None:
    logits, labels = sample()
    np.testing.assert_array_equal(run(one, logits, labels), run(other, logits, labels))


def test_class_balanced_comes_to_balanced_weights_as_beta_comes_to_one() -> None:
    balanced = build(CrossEntropy(class_weights="balanced")).weights
    effective = build(ClassBalanced(beta=1 - 1e-12)).weights
    torch.testing.assert_close(effective / effective.sum(), balanced / balanced.sum(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("component", FAMILY, ids=str)
def test_the_slope_is_that_of_finite_differences(component: Any) -> None:
    logits, labels = (torch.from_numpy(part) for part in sample(n=12))
    loss = build(component)
    logits = logits.float().requires_grad_()
    (slope,) = torch.autograd.grad(loss(logits, labels).mean(), logits)
    step = 1e-2
    for row, column in [(0, 0), (3, 1), (7, 2), (11, 1)]:
        values = []
        for sign in (1, -1):
            moved = logits.detach().clone()
            moved[row, column] += sign * step
            values.append(float(loss(moved, labels).double().mean()))
        numeric = (values[0] - values[1]) / (2 * step)
        assert slope[row, column].item() == pytest.approx(numeric, rel=0.02, abs=2e-4)


@pytest.mark.parametrize("component", [*FAMILY, Ldam(scale=30.0), Asymmetric()], ids=str)
@pytest.mark.parametrize("scale", [0.0, 100.0, 1e4])
def test_value_and_slope_are_finite_at_the_extremes(component: Any, scale: float) -> None:
    patterns = torch.tensor([[1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0], [1.0, 1.0, -1.0]])
    for labels in (torch.tensor([0, 1, 2, 0]), torch.tensor([1, 2, 0, 2]), torch.tensor([1, 1, 1, 1])):
        logits = (patterns * scale).requires_grad_()
        loss = build(component)(logits, labels)
        loss.sum().backward()
        assert torch.isfinite(loss).all()
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("component", SOFT, ids=str)
def test_the_loss_of_a_blend_is_the_blend_of_the_losses(component: Any) -> None:
    logits, labels = (torch.from_numpy(part) for part in sample())
    loss = build(component)
    first = torch.nn.functional.one_hot(labels, 3).float()
    second = first.roll(1, dims=0)
    torch.testing.assert_close(loss(logits, first), loss(logits, labels))
    expected = 0.3 * loss(logits, first) + 0.7 * loss(logits, second)
    torch.testing.assert_close(loss(logits, 0.3 * first + 0.7 * second), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("component", [ClassBalanced(), Ldam(), Asymmetric(class_weights="balanced")], ids=str)
def test_what_needs_counts_names_the_class_that_has_none(component: Any) -> None:
    with pytest.raises(DataError, match="class 2 has no sample"):
        build(component, (5, 5, 0))
