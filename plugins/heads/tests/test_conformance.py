"""The heads keep what their kind promises."""

from __future__ import annotations

from roadwork_core.testing import HeadContract


class TestLinear(HeadContract):
    component = "heads/linear"
    variants = ({"dropout": 0.5, "norm": True}, {"zero_init": True, "init_bias": "prior"})


class TestMlp(HeadContract):
    component = "heads/mlp"
    variants = ({"hidden": [12, 8], "norm": False}, {"dropout": 0.0, "init_bias": "prior"})


class TestDoraLinear(HeadContract):
    component = "heads/dora_linear"
    variants = ({"dropout": 0.5, "norm": True}, {"zero_init": True, "init_bias": "prior"})


class TestAttentionPool(HeadContract):
    component = "heads/attention_pool"
    variants = (
        {"heads": 2, "mlp_ratio": 0, "dropout": 0.2},
        {"heads": 1, "norm": False, "mlp_ratio": 2, "init_bias": "prior"},
    )
