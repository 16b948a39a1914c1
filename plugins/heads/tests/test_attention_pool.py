"""The attention pool is the one of the papers that it names, whatever the order and number of tokens."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from roadwork_heads import AttentionPool

from roadwork_core.errors import UsageError
from roadwork_core.kinds import HeadContext

Floats = NDArray[np.float64]
WIDTH = 20


def build(component: Any, *, token_dim: int | None = WIDTH) -> Any:
    """A head all of whose weights are noise, so that none drops out of a comparison."""
    generator = torch.Generator().manual_seed(0)
    head = component.build(HeadContext(feature_dim=7, num_classes=3, token_dim=token_dim)).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return head


def norm(x: Floats, weight: Floats, bias: Floats) -> Floats:
    centred = x - x.mean(axis=-1, keepdims=True)
    result: Floats = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) * weight + bias
    return result


def gelu(x: Floats) -> Floats:
    return x * 0.5 * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0)))


def rendered(component: AttentionPool, w: dict[str, Floats], picture: Floats) -> Floats:
    """The pooled vector of one picture's tokens, (T, D), by the MAP head of arXiv 2106.04560, head by head."""
    if component.norm:
        picture = norm(picture, w["norm.weight"], w["norm.bias"])
    keys, values = np.split(picture @ w["key_value.weight"].T + w["key_value.bias"], 2, axis=1)
    size = WIDTH // component.heads
    parts = []
    for number in range(component.heads):
        own = slice(number * size, (number + 1) * size)
        scores = np.exp(keys[:, own] @ w["question"][number] / np.sqrt(size))
        parts.append((scores / scores.sum()) @ values[:, own])
    pooled: Floats = w["output.weight"] @ np.concatenate(parts) + w["output.bias"]
    if component.mlp_ratio:
        hidden = gelu(w["mlp.1.weight"] @ norm(pooled, w["mlp.0.weight"], w["mlp.0.bias"]) + w["mlp.1.bias"])
        pooled = pooled + w["mlp.3.weight"] @ hidden + w["mlp.3.bias"]
    return pooled


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize(
    "component", [AttentionPool(), AttentionPool(heads=2, mlp_ratio=0), AttentionPool(heads=5, mlp_ratio=2, norm=False)]
)
def test_it_is_multi_head_attention_to_a_learned_question(component: AttentionPool, count: int) -> None:
    head = build(component)
    tokens = np.random.default_rng(0).normal(size=(3, count, WIDTH))
    w = {name: tensor.double().numpy() for name, tensor in head.state_dict().items()}
    pooled = np.stack([rendered(component, w, picture) for picture in tokens])
    found = head.pool(torch.from_numpy(tokens).float())
    np.testing.assert_allclose(found.detach(), pooled, rtol=1e-4, atol=1e-4)
    logits = pooled @ w["linear.weight"].T + w["linear.bias"]
    np.testing.assert_allclose(head(found).detach(), logits, rtol=1e-4, atol=1e-3)


def test_it_is_the_pooling_of_siglip() -> None:
    """With SigLIP's weights in place, what transformers computes; its probe passes a projection that is folded here."""
    siglip = pytest.importorskip("transformers.models.siglip.modeling_siglip")
    from transformers import SiglipVisionConfig

    config = SiglipVisionConfig(hidden_size=WIDTH, intermediate_size=3 * WIDTH, num_attention_heads=4)
    config.hidden_act, config.layer_norm_eps = "gelu", 1e-5
    torch.manual_seed(1)
    theirs = siglip.SiglipMultiheadAttentionPoolingHead(config).eval()
    ours = build(AttentionPool(mlp_ratio=3, norm=False))
    attention = theirs.attention
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(std=0.5)
        query, key_value = attention.in_proj_weight.split([WIDTH, 2 * WIDTH])
        query_bias, key_value_bias = attention.in_proj_bias.split([WIDTH, 2 * WIDTH])
        ours.question.copy_((query @ theirs.probe[0, 0] + query_bias).reshape(4, -1))
        ours.key_value.weight.copy_(key_value)
        ours.key_value.bias.copy_(key_value_bias)
        for mine, other in (
            (ours.output, attention.out_proj),
            (ours.mlp[0], theirs.layernorm),
            (ours.mlp[1], theirs.mlp.fc1),
            (ours.mlp[3], theirs.mlp.fc2),
        ):
            mine.weight.copy_(other.weight)
            mine.bias.copy_(other.bias)
        tokens = torch.randn(3, 9, WIDTH)
        torch.testing.assert_close(ours.pool(tokens), theirs(tokens), rtol=1e-4, atol=1e-4)


def test_the_order_of_tokens_does_not_matter_and_which_there_are_does() -> None:
    head, tokens = build(AttentionPool()), torch.randn(4, 9, WIDTH, generator=torch.Generator().manual_seed(2))
    shuffled = tokens[:, torch.randperm(9, generator=torch.Generator().manual_seed(3))]
    torch.testing.assert_close(head.pool(tokens), head.pool(shuffled), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(head.pool(tokens), head.pool(tokens[:, 1:]), atol=1e-2)


def test_it_finds_the_one_place_that_a_mean_loses() -> None:
    """Trained, it weights the token that tells the class among many that do not."""
    torch.manual_seed(0)
    labels = torch.randint(0, 2, (256,))
    tokens = torch.randn(256, 64, 8)
    tokens[:, :, 0] = 0.0
    place = torch.randint(0, 64, (256,))
    tokens[torch.arange(256), place, 0] = 6.0
    tokens[torch.arange(256), place, 1] = 4.0 * (labels * 2.0 - 1.0)
    head = AttentionPool(heads=2).build(HeadContext(feature_dim=8, num_classes=2, token_dim=8))
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(150):
        loss = torch.nn.functional.cross_entropy(head(head.pool(tokens[:128])), labels[:128])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        right = (head(head.pool(tokens[128:])).argmax(dim=1) == labels[128:]).float().mean()
    assert right > 0.9


def test_it_says_what_does_not_fit() -> None:
    with pytest.raises(UsageError, match="tokens of width 20 cannot be divided among 3 heads"):
        build(AttentionPool(heads=3))
    with pytest.raises(UsageError, match="the backbone gives no tokens"):
        build(AttentionPool(), token_dim=None)
