"""The losses keep what their kind promises."""

from __future__ import annotations

from roadwork_core.testing import LossContract


class TestCrossEntropy(LossContract):
    component = "losses/cross_entropy"
    variants = ({"label_smoothing": 0.1}, {"class_weights": [1.0, 3.0]}, {"balanced": True})


class TestFocal(LossContract):
    component = "losses/focal"
    variants = (
        {"gamma": 0.5},
        {"alpha": 0.25, "label_smoothing": 0.1},
        {"class_weights": [1.0, 3.0]},
        {"balanced": True},
    )


class TestFocalOfThreeClasses(LossContract):
    component = "losses/focal"
    class_counts = (50, 30, 20)
    variants = ({"balanced": True},)
