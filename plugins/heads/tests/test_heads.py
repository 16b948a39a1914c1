"""The heads start where they say, and are rebuilt without the data they were made for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from roadwork_heads import AttentionPool, DoraLinear, Linear, Mlp

from roadwork_core.errors import RoadworkError, UsageError
from roadwork_core.kinds import HeadContext

Floats = NDArray[np.float64]
COUNTS = np.array([700, 200, 99])


def build(component: Any, counts: Any = COUNTS) -> Any:
    torch.manual_seed(0)
    return component.build(HeadContext(feature_dim=20, num_classes=3, class_counts=counts))


PRIOR = [
    Linear(init_bias="prior"),
    Mlp(init_bias="prior", dropout=0.0),
    DoraLinear(init_bias="prior"),
    AttentionPool(init_bias="prior", heads=2),
]


@pytest.mark.parametrize("component", PRIOR, ids=lambda component: type(component).__name__)
def test_with_a_prior_bias_the_first_answers_are_the_class_frequencies(component: Any) -> None:
    head = build(component).eval()
    with torch.no_grad():
        answers = torch.softmax(head(torch.randn(2000, 20)), dim=1).mean(dim=0)
    np.testing.assert_allclose(answers, COUNTS / COUNTS.sum(), atol=0.01)


@pytest.mark.parametrize(
    "component", [Linear(init_bias="prior", zero_init=True), DoraLinear(init_bias="prior", zero_init=True)]
)
def test_with_zero_weights_every_answer_is_the_class_frequencies(component: Any) -> None:
    answers = torch.softmax(build(component).eval()(torch.randn(5, 20)), dim=1)
    np.testing.assert_allclose(answers.detach(), np.tile(COUNTS / COUNTS.sum(), (5, 1)), rtol=1e-5)


@pytest.mark.parametrize("component", [Linear(), Mlp(), DoraLinear(), AttentionPool(heads=2)])
def test_without_one_no_class_is_preferred(component: Any) -> None:
    answers = torch.softmax(build(component).eval()(torch.randn(2000, 20)), dim=1).mean(dim=0)
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
        AttentionPool(parts=5, heads=1),
    ],
)
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


def norm(x: Floats, weight: Floats, bias: Floats) -> Floats:
    centred = x - x.mean(axis=-1, keepdims=True)
    result: Floats = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) * weight + bias
    return result


@pytest.mark.parametrize("tokens", [False, True])
def test_attention_pool_is_attention_to_learned_questions(tokens: bool) -> None:
    head = build(AttentionPool(parts=1, heads=2) if tokens else AttentionPool(parts=5, heads=2)).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_()
    shape = (3, 7, 20) if tokens else (3, 20)
    features = np.random.default_rng(0).normal(size=shape)
    w = state(head)
    expected = []
    for x in features if tokens else features.reshape(3, 5, 4):
        x = norm(x, w["norm.weight"], w["norm.bias"])
        both = x @ w["key_value.weight"].T + w["key_value.bias"]
        keys, values = np.split(both, 2, axis=1)
        half = keys.shape[1] // 2
        pooled = []
        for number in range(2):
            part = slice(number * half, (number + 1) * half)
            scores = np.exp(keys[:, part] @ w["question"][number] / np.sqrt(half))
            pooled.append((scores / scores.sum()) @ values[:, part])
        vector = norm(np.concatenate(pooled), w["pooled_norm.weight"], w["pooled_norm.bias"])
        expected.append(w["linear.weight"] @ vector + w["linear.bias"])
    np.testing.assert_allclose(head(torch.from_numpy(features).float()).detach(), expected, rtol=1e-4, atol=1e-4)


def test_attention_pool_does_not_care_for_the_order_of_tokens() -> None:
    head, tokens = build(AttentionPool(parts=1, heads=2)).eval(), torch.randn(4, 9, 20)
    torch.testing.assert_close(head(tokens), head(tokens.flip(1)), atol=1e-5, rtol=1e-4)


def test_attention_pool_says_what_does_not_divide() -> None:
    with pytest.raises(UsageError, match="20 features cannot be divided into 3 parts of 4 heads"):
        build(AttentionPool(parts=3))
    with pytest.raises(RoadworkError, match=r"one pooled vector.*\(set head.parts"):
        build(AttentionPool(parts=1, heads=2))(torch.randn(2, 20))
