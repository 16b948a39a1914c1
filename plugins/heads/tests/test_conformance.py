"""The heads keep what their kind promises."""

from __future__ import annotations

from roadwork_core.testing import HeadContract


class TestLinear(HeadContract):
    component = "heads/linear"
    variants = ({"dropout": 0.5, "norm": True}, {"zero_init": True, "prior_bias": True})


class TestMlp(HeadContract):
    component = "heads/mlp"
    variants = ({"hidden": [12, 8], "norm": False}, {"dropout": 0.0, "prior_bias": True})
