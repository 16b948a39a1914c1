"""The heads start where they say, and are rebuilt without the data they were made for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from roadwork_heads import Linear, Mlp

from roadwork_core.kinds import HeadContext

COUNTS = np.array([700, 200, 99])


def build(component: Any, counts: Any = COUNTS) -> Any:
    torch.manual_seed(0)
    return component.build(HeadContext(feature_dim=20, num_classes=3, class_counts=counts))


@pytest.mark.parametrize("component", [Linear(prior_bias=True), Mlp(prior_bias=True)])
def test_a_prior_bias_starts_at_the_class_frequencies(component: Any) -> None:
    bias = build(component).linear.bias.detach()
    np.testing.assert_allclose(torch.softmax(bias, dim=0), (COUNTS + 1) / (COUNTS.sum() + 3), rtol=1e-5)


def test_a_class_without_samples_keeps_a_finite_prior() -> None:
    bias = build(Linear(prior_bias=True), np.array([10, 0, 5])).linear.bias
    assert torch.isfinite(bias).all()
    assert bias.argmin() == 1


def test_zero_init_answers_every_picture_alike() -> None:
    head = build(Linear(zero_init=True, prior_bias=True)).eval()
    logits = head(torch.randn(5, 20))
    assert torch.equal(logits, head.linear.bias.detach().expand(5, 3))


@pytest.mark.parametrize("component", [Linear(dropout=0.5, norm=True), Linear(prior_bias=True), Mlp(hidden=(7, 5))])
def test_it_is_rebuilt_without_class_counts_and_answers_alike(component: Any) -> None:
    head, again = build(component), build(component, None)
    again.load_state_dict(head.state_dict(), strict=True)
    features = torch.randn(4, 20)
    assert torch.equal(head.eval()(features), again.eval()(features))


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
