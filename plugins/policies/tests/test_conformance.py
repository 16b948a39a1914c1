"""The policies and calibrators keep what their kinds promise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from roadwork_policies import BetaCalibration, IsotonicCalibration, Platt

from roadwork_core.kinds import CalibratorContext
from roadwork_core.metrics import nll
from roadwork_core.testing import CalibratorContract, PolicyContract, stand_ins


class TestNone(CalibratorContract):
    component = "policies/none"


class TestTemperature(CalibratorContract):
    component = "policies/temperature"


class TestTemperatureOfMoreClasses(CalibratorContract):
    component = "policies/temperature"
    num_classes = 4


class TestPlatt(CalibratorContract):
    component = "policies/platt"

    def test_is_no_worse_on_what_it_was_fitted_on(self) -> None:
        """Platt's smoothed targets are not maximum likelihood: on calibrated logits they cost a little, by intent."""
        logits, labels, _ = stand_ins.scores(self.samples, self.num_classes)
        fitted = self.build(Platt())
        assert nll(fitted.transform(logits), labels) <= nll(logits, labels) + 0.005
        bold = Platt().build(CalibratorContext(logits=3 * logits, labels=labels))
        assert nll(bold.transform(3 * logits), labels) < nll(3 * logits, labels) - 0.05


class TestBeta(CalibratorContract):
    component = "policies/beta"

    def test_is_no_worse_on_what_it_was_fitted_on(self) -> None:
        """Its smoothed targets cost as Platt's do."""
        logits, labels, _ = stand_ins.scores(self.samples, self.num_classes)
        bold = BetaCalibration().build(CalibratorContext(logits=3 * logits, labels=labels))
        assert nll(bold.transform(3 * logits), labels) < nll(3 * logits, labels) - 0.05


class TestIsotonic(CalibratorContract):
    component = "policies/isotonic"

    def test_is_no_worse_on_what_it_was_fitted_on(self) -> None:
        """Its probabilities are kept from 0 and 1, which costs a little; raw logits that are bold cost more."""
        logits, labels, _ = stand_ins.scores(self.samples, self.num_classes)
        fitted = self.build(IsotonicCalibration())
        assert nll(fitted.transform(logits), labels) <= nll(logits, labels)


class TestVector(CalibratorContract):
    component = "policies/vector"
    variants = ({"l2": 0.1},)


class TestVectorOfMoreClasses(CalibratorContract):
    component = "policies/vector"
    num_classes = 4


class TestDirichlet(CalibratorContract):
    component = "policies/dirichlet"
    variants = ({"l2": 0.1},)


class TestDirichletOfMoreClasses(CalibratorContract):
    component = "policies/dirichlet"
    num_classes = 4


class TestThreshold(PolicyContract):
    component = "policies/threshold"
    options: ClassVar[Mapping[str, Any]] = {"bootstrap": 20}
    variants = (
        {"method": "bootstrap", "abstain_band": 0.3},
        {"method": "auto"},
        {"metric": "cost", "fp_cost": 3.0, "fn_cost": 1.5, "method": "empirical"},
        {"metric": "recall_at_precision", "min_precision": 0.8},
        {"metric": "precision_at_recall", "min_recall": 0.8},
        {"calibrator": {"use": "temperature"}, "target_prior": 0.3},
        {"n_thresholds": 100, "folds": 3},
    )


class TestThresholdOfMoreClasses(PolicyContract):
    component = "policies/threshold"
    num_classes = 3
    options: ClassVar[Mapping[str, Any]] = {"bootstrap": 20}


class TestScrc(PolicyContract):
    component = "policies/scrc"
    variants = (
        {"alpha": 0.2, "xi": 0.6, "fit_fraction": 0.4},
        {"variant": "inductive", "delta": 0.2},
        {"calibrator": {"use": "none"}},
        {"loss": "false_negative_rate"},
        {"per_group": "one"},
    )


class TestScrcOfMoreClasses(PolicyContract):
    component = "policies/scrc"
    num_classes = 3
    variants = ({"variant": "inductive", "delta": 0.2},)


class TestConformal(PolicyContract):
    component = "policies/conformal"
    variants = (
        {"alpha": 0.2, "fit_fraction": 0.4, "fill_empty": True},
        {"score": "aps"},
        {"score": "raps", "randomized": False, "penalty": 0.3, "k_reg": 0},
        {"class_conditional": True, "calibrator": {"use": "none"}},
        {"per_group": "one"},
    )


class TestConformalOfMoreClasses(PolicyContract):
    component = "policies/conformal"
    num_classes = 5
    options: ClassVar[Mapping[str, Any]] = {"score": "raps"}
    variants = (
        {"penalty": 0.3, "k_reg": 2},
        {"randomized": False},
        {"class_conditional": True, "calibrator": {"use": "vector"}},
        {"score": "aps"},
        {"score": "lac", "fill_empty": True, "alpha": 0.3},
    )


class TestSelectiveError(PolicyContract):
    component = "policies/selective_error"
    variants = (
        {"method": "sgr"},
        {"target_error": 0.1, "delta": 0.05, "start": 0.4, "step": 0.1},
        {"calibrator": {"use": "platt"}, "fit_fraction": 0.3},
        {"per_group": "one", "target_error": 0.2},
    )


class TestSelectiveErrorOfMoreClasses(PolicyContract):
    component = "policies/selective_error"
    num_classes = 3
    variants = ({"calibrator": {"use": "temperature"}},)


class TestHybrid(PolicyContract):
    component = "policies/hybrid"
    members: ClassVar[Mapping[str, Any]] = {"threshold": {"use": "threshold", "bootstrap": 20}, "scrc": {"use": "scrc"}}
    variants = ({"must_answer": True}, {"target_error": 0.01}, {"on_empty_set": "abstain"})
