"""Test-time augmentation keeps what its kind promises."""

from __future__ import annotations

from roadwork_core.testing import TtaContract


class TestNone(TtaContract):
    component = "tta/none"


class TestFlip(TtaContract):
    component = "tta/flip"
    variants = ({"fusion": "mean_probability"}, {"fusion": "max"}, {"fusion": "entropy"})


class TestMultiview(TtaContract):
    component = "tta/multiview"
    variants = ({"scales": [1.0], "flip": False, "tiles": 2, "overlap": 0.0, "fusion": "entropy"}, {"tiles": 0})
