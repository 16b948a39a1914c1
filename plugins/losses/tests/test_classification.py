"""Cross-entropy and focal loss against numpy, and what they promise at their edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from roadwork_losses import CrossEntropy, Focal

from roadwork_core.errors import DataError, UsageError
from roadwork_core.kinds import LossContext

Floats = NDArray[np.float64]


def build(component: Any, counts: tuple[int, ...] = (40, 60)) -> Any:
    return component.build(LossContext(num_classes=len(counts), class_counts=np.array(counts)))


def reference(logits: Floats, share: Floats, weights: Floats, gamma: float) -> Floats:
    """sum_c t_c w_c (1 - p_c)^gamma (-log p_c), straight from the paper."""
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    result: Floats = (share * weights * (1 - p) ** gamma * -np.log(p)).sum(axis=1)
    return result


def sample(classes: int, seed: int = 0, n: int = 50) -> tuple[Floats, NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 2, (n, classes)), rng.integers(0, classes, n)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("classes", [2, 5])
def test_focal_is_the_formula_of_the_paper(gamma: float, classes: int) -> None:
    logits, labels = sample(classes)
    loss = build(Focal(gamma=gamma), (1,) * classes)(torch.from_numpy(logits), torch.from_numpy(labels))
    expected = reference(logits, np.eye(classes)[labels], np.ones(classes), gamma)
    assert loss.shape == (50,)
    assert loss.dtype is torch.float32
    np.testing.assert_allclose(loss, expected, rtol=2e-5, atol=1e-6)


def test_focal_of_a_certain_sample_by_hand() -> None:
    # p = 0.9 for the true class, gamma 2: 0.01 * -ln 0.9 = 0.00105361 (Lin et al. quote a factor of 100).
    logits = torch.log(torch.tensor([[0.1, 0.9]]))
    assert build(Focal(gamma=2.0))(logits, torch.tensor([1])).item() == pytest.approx(0.00105361, rel=1e-4)


def test_gamma_zero_is_cross_entropy_to_the_bit() -> None:
    logits, labels = (torch.from_numpy(part) for part in sample(4))
    focal, plain = build(Focal(gamma=0.0), (1,) * 4), build(CrossEntropy(), (1,) * 4)
    assert torch.equal(focal(logits, labels), plain(logits, labels))


@settings(max_examples=40, deadline=None)
@given(smoothing=st.floats(0, 0.9), seed=st.integers(0, 1000), classes=st.integers(2, 6))
def test_cross_entropy_is_that_of_torch(smoothing: float, seed: int, classes: int) -> None:
    logits, labels = sample(classes, seed)
    weights = tuple(float(weight) for weight in np.random.default_rng(seed).uniform(0.1, 4, classes))
    component = CrossEntropy(label_smoothing=smoothing, class_weights=weights)
    loss = build(component, (1,) * classes)(torch.from_numpy(logits), torch.from_numpy(labels))
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits).float(),
        torch.from_numpy(labels),
        weight=torch.tensor(weights),
        label_smoothing=smoothing,
        reduction="none",
    )
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)


def test_alpha_is_the_weight_of_class_one() -> None:
    logits, labels = sample(2)
    loss = build(Focal(gamma=2.0, alpha=0.25))(torch.from_numpy(logits), torch.from_numpy(labels))
    np.testing.assert_allclose(
        loss, reference(logits, np.eye(2)[labels], np.array([0.75, 0.25]), 2.0), rtol=2e-5, atol=1e-6
    )


def test_focal_equals_the_sigmoid_form_on_the_margin() -> None:
    """On z1 - z0 the paper's binary form and the softmax form are one."""
    from torchvision.ops import sigmoid_focal_loss

    logits, labels = (torch.from_numpy(part) for part in sample(2))
    margin = (logits[:, 1] - logits[:, 0]).float()
    expected = sigmoid_focal_loss(margin, labels.float(), alpha=0.3, gamma=1.5, reduction="none")
    torch.testing.assert_close(build(Focal(gamma=1.5, alpha=0.3))(logits, labels), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "component", [CrossEntropy(label_smoothing=0.1), Focal(gamma=2.0, class_weights=(1.0, 2.0, 3.0))]
)
def test_soft_targets_are_linear_in_the_target(component: Any) -> None:
    """What mixup needs: the loss of a blend of targets is the blend of the losses."""
    logits, labels = (torch.from_numpy(part) for part in sample(3))
    loss = build(component, (1, 1, 1))
    first = torch.nn.functional.one_hot(labels, 3).float()
    second = first.roll(1, dims=0)
    torch.testing.assert_close(loss(logits, first), loss(logits, labels))
    blend = loss(logits, 0.3 * first + 0.7 * second)
    torch.testing.assert_close(blend, 0.3 * loss(logits, first) + 0.7 * loss(logits, second), rtol=1e-5, atol=1e-6)


def test_balanced_weighs_every_class_alike_and_by_one_on_average() -> None:
    counts = (90, 10)
    weights = build(CrossEntropy(class_weights="balanced"), counts).weights.numpy()
    np.testing.assert_allclose(weights * counts, [50, 50], rtol=1e-6)
    assert np.average(weights, weights=counts) == pytest.approx(1.0)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0, 1e4])
def test_gradients_stay_finite_at_certainty(gamma: float, scale: float) -> None:
    logits = (torch.tensor([[1.0, -1.0], [-1.0, 1.0]]) * scale).requires_grad_()
    build(Focal(gamma=gamma))(logits, torch.tensor([0, 0])).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_half_precision_logits_are_computed_in_float32() -> None:
    logits, labels = sample(2)
    half = torch.from_numpy(logits).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = build(Focal())(half, torch.from_numpy(labels))
    assert loss.dtype is torch.float32
    torch.testing.assert_close(loss, build(Focal())(half.float(), torch.from_numpy(labels)))


def test_what_cannot_be_is_one_clear_error() -> None:
    with pytest.raises(UsageError, match="alpha is for two classes, and there are 3"):
        build(Focal(alpha=0.25), (1, 1, 1))
    with pytest.raises(UsageError, match="2 values for 3 classes"):
        build(CrossEntropy(class_weights=(1.0, 2.0)), (1, 1, 1))
    with pytest.raises(DataError, match="class 1 has no sample"):
        build(CrossEntropy(class_weights="balanced"), (5, 0))
    with pytest.raises(ValueError, match="alpha excludes"):
        Focal(alpha=0.5, class_weights="balanced")
    with pytest.raises(ValueError, match="all zero"):
        CrossEntropy(class_weights=(0.0, 0.0))
    with pytest.raises(ValueError, match="gamma must be at least 0"):
        Focal(gamma=-1.0)
