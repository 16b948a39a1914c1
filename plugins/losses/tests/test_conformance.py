"""The losses keep what their kind promises."""

from __future__ import annotations

from roadwork_core.testing import LossContract


class TestCrossEntropy(LossContract):
    component = "losses/cross_entropy"
    variants = ({"label_smoothing": 0.1}, {"class_weights": [1.0, 3.0]}, {"class_weights": "balanced"})


class TestFocal(LossContract):
    component = "losses/focal"
    variants = (
        {"gamma": 0.5},
        {"alpha": 0.25, "label_smoothing": 0.1},
        {"class_weights": [1.0, 3.0]},
        {"class_weights": "balanced"},
    )


class TestFocalOfThreeClasses(LossContract):
    component = "losses/focal"
    class_counts = (50, 30, 20)
    variants = ({"class_weights": "balanced"},)


class TestPoly(LossContract):
    component = "losses/poly"
    variants = ({"epsilon": -0.5, "gamma": 0.5}, {"class_weights": "balanced", "label_smoothing": 0.1})


class TestClassBalanced(LossContract):
    component = "losses/class_balanced"
    class_counts = (500, 30, 2)
    variants = ({"beta": 0.0}, {"gamma": 2.0, "label_smoothing": 0.1})


class TestAsymmetric(LossContract):
    component = "losses/asymmetric"
    variants = ({"clip": 0.0, "gamma_positive": 0.5}, {"class_weights": [2.0, 1.0], "label_smoothing": 0.1})


class TestAsymmetricOfThreeClasses(LossContract):
    component = "losses/asymmetric"
    class_counts = (50, 30, 20)


class TestLdam(LossContract):
    component = "losses/ldam"
    class_counts = (500, 30, 2)
    variants = ({"scale": 30.0}, {"beta": 0.9}, {"beta": 0.9, "deferred": 0.5})


class TestSoftMcc(LossContract):
    component = "losses/soft_mcc"
    variants = ({"cross_entropy": 0.5},)


class TestSoftMccOfThreeClasses(LossContract):
    component = "losses/soft_mcc"
    class_counts = (50, 30, 20)
