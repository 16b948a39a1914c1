"""The heads start where they say, and are rebuilt without the data they were made for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from roadwork_heads import AttentionPool, DoraLinear, Linear, Mlp

from roadwork_core.kinds import HeadContext

Floats = NDArray[np.float64]
COUNTS = np.array([700, 200, 99])


def build(component: Any, counts: Any = COUNTS) -> Any:
    torch.manual_seed(0)
    return component.build(HeadContext(feature_dim=20, num_classes=3, class_counts=counts, token_dim=20))


def answers_of(head: Any, count: int) -> torch.Tensor:
    """Logits of `count` pictures that are noise, as features or as seven tokens."""
    generator = torch.Generator().manual_seed(5)
    if hasattr(head, "pool"):
        features = head.pool(torch.randn(count, 7, 20, generator=generator))
    else:
        features = torch.randn(count, 20, generator=generator)
    logits: torch.Tensor = head(features)
    return logits


PRIOR = [
    Linear(init_bias="prior"),
    Mlp(init_bias="prior", dropout=0.0),
    DoraLinear(init_bias="prior"),
    AttentionPool(init_bias="prior"),
]


@pytest.mark.parametrize("component", PRIOR, ids=lambda component: type(component).__name__)
def test_with_a_prior_bias_the_first_answers_are_the_class_frequencies(component: Any) -> None:
    head = build(component).eval()
    with torch.no_grad():
        answers = torch.softmax(answers_of(head, 2000), dim=1).mean(dim=0)
    np.testing.assert_allclose(answers, COUNTS / COUNTS.sum(), atol=0.01)


@pytest.mark.parametrize(
    "component", [Linear(init_bias="prior", zero_init=True), DoraLinear(init_bias="prior", zero_init=True)]
)
def test_with_zero_weights_every_answer_is_the_class_frequencies(component: Any) -> None:
    answers = torch.softmax(build(component).eval()(torch.randn(5, 20)), dim=1)
    np.testing.assert_allclose(answers.detach(), np.tile(COUNTS / COUNTS.sum(), (5, 1)), rtol=1e-5)


@pytest.mark.parametrize("component", [Linear(), Mlp(), DoraLinear(), AttentionPool()])
def test_without_one_no_class_is_preferred(component: Any) -> None:
    answers = torch.softmax(answers_of(build(component).eval(), 2000), dim=1).mean(dim=0)
    np.testing.assert_allclose(answers.detach(), [1 / 3] * 3, atol=0.01)


def test_a_class_without_samples_keeps_a_finite_prior() -> None:
    bias = build(Linear(init_bias="prior"), np.array([10, 0, 5])).linear.bias
    np.testing.assert_allclose(torch.softmax(bias.detach(), dim=0), np.array([11, 1, 6]) / 18, rtol=1e-5)


def test_zero_init_answers_every_picture_alike() -> None:
    head = build(Linear(zero_init=True, init_bias="prior")).eval()
    logits = head(torch.randn(5, 20))
    assert torch.equal(logits, head.linear.bias.detach().expand(5, 3))


@pytest.mark.parametrize(
    "component",
    [
        Linear(dropout=0.5, norm=True),
        *PRIOR,
        Mlp(hidden=(7, 5)),
        DoraLinear(norm=True),
        AttentionPool(heads=5, mlp_ratio=0),
    ],
)
def test_it_is_rebuilt_without_class_counts_and_answers_alike(component: Any) -> None:
    head, again = build(component), build(component, None)
    again.load_state_dict(head.state_dict(), strict=True)
    assert torch.equal(answers_of(head.eval(), 4), answers_of(again.eval(), 4))


def test_linear_is_a_matrix_product() -> None:
    head = build(Linear()).eval()
    features = np.random.default_rng(0).normal(size=(6, 20)).astype(np.float32)
    weight, bias = (parameter.detach().numpy() for parameter in head.linear.parameters())
    np.testing.assert_allclose(head(torch.from_numpy(features)).detach(), features @ weight.T + bias, atol=1e-5)


@pytest.mark.parametrize("component", [Linear(dropout=0.5), Mlp(dropout=0.5)])
def test_dropout_acts_in_training_only(component: Any) -> None:
    head, features = build(component), torch.randn(4, 20)
    assert not torch.equal(head.train()(features), head(features))
    assert torch.equal(head.eval()(features), head(features))


def test_norm_makes_the_scale_of_features_irrelevant() -> None:
    head, features = build(Linear(norm=True)).eval(), torch.randn(4, 20)
    torch.testing.assert_close(head(features * 1000), head(features), rtol=1e-3, atol=1e-4)


def state(head: torch.nn.Module) -> dict[str, Floats]:
    return {name: tensor.double().numpy() for name, tensor in head.state_dict().items()}


def test_dora_linear_is_direction_times_magnitude() -> None:
    head = build(DoraLinear()).eval()
    with torch.no_grad():
        head.magnitude.copy_(torch.tensor([2.0, 0.5, -1.0]))
        head.direction.mul_(7.0)
    features, kept = np.random.default_rng(0).normal(size=(6, 20)), state(head)
    directions = kept["direction"] / np.sqrt((kept["direction"] ** 2).sum(axis=1, keepdims=True))
    expected = (features @ directions.T) * kept["magnitude"] + kept["bias"]
    np.testing.assert_allclose(head(torch.from_numpy(features).float()).detach(), expected, atol=1e-5)


def test_dora_linear_starts_as_the_linear_head_with_its_weights() -> None:
    """Decomposed, not changed: the direction's length does not matter and the magnitude is that of the start."""
    plain, decomposed = build(Linear()), build(DoraLinear())
    features = torch.randn(4, 20)
    torch.testing.assert_close(plain(features), decomposed(features), atol=1e-6, rtol=1e-4)


def test_dora_linear_that_starts_at_zero_learns() -> None:
    head = build(DoraLinear(zero_init=True))
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
    features = torch.randn(60, 20, generator=torch.Generator().manual_seed(1))
    labels = features[:, :3].argmax(dim=1)
    losses = []
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(head(features), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
