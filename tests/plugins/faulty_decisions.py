"""Faults of calibrators, policies and test-time augmentation."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from roadwork_core.decisions import ABSTAIN, Decisions
from roadwork_core.errors import RoadworkError
from roadwork_core.testing import CalibratorContract, PolicyContract, TtaContract

from .faulty import Case, made


def calibrator_of(fault: str) -> type:
    class Calibrator:
        def __init__(self, temperature: float) -> None:
            self.temperature = temperature

        def transform(self, logits: Any) -> Any:
            if fault == "in place":
                logits /= 2.0
            if fault == "float32":
                return logits.astype(np.float32)
            if fault == "batch":
                return logits - logits.mean(axis=0, keepdims=True)
            return logits / self.temperature

        def state(self) -> Any:
            return {"temperature": np.float32(self.temperature) if fault == "no JSON" else self.temperature}

    def build(self: Any, ctx: Any) -> Any:
        return Calibrator(0.01 if fault == "overconfident" else 1.7)

    def restore(self: Any, state: Any) -> Any:
        return Calibrator(round(state["temperature"]) if fault == "rounds" else state["temperature"])

    return made("calibrator", build, restore=restore)


def calibrator(check: str, fault: str, said: str) -> Case:
    return Case(contract=CalibratorContract, check=check, cls=calibrator_of(fault), said=said, fault=fault)


CALIBRATORS = [
    calibrator("test_keeps_shape_and_rows", "in place", "writes into its argument"),
    calibrator("test_keeps_shape_and_rows", "float32", "become float32"),
    calibrator("test_keeps_shape_and_rows", "batch", "depend on the rest of its batch"),
    calibrator("test_survives_json", "no JSON", "state is no JSON value"),
    calibrator("test_survives_json", "rounds", "it calibrates otherwise"),
    calibrator("test_is_no_worse_on_what_it_was_fitted_on", "overconfident", "negative log likelihood"),
]


def policy_of(fault: str) -> type:
    class Policy:
        def __init__(self, cut: float) -> None:
            self.cut = cut

        def decide(self, logits: Any) -> Decisions:
            powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
            p = (powers / powers.sum(axis=1, keepdims=True))[:, 1]
            cut = float(np.median(p)) if fault == "median of the batch" and len(p) else self.cut
            labels = (p >= cut).astype(np.int64)
            sets = np.arange(2) == labels[:, None]
            made = Decisions(labels=labels, scores=p, sets=sets, reasons=[f"p {value:.3f}" for value in p])
            if fault == "outside its set":
                return attrs.evolve(made, sets=~sets)
            if fault == "no probability":
                return attrs.evolve(made, scores=p * 100)
            if fault == "int32":
                return attrs.evolve(made, labels=labels.astype(np.int32))
            if fault == "no such class":
                return attrs.evolve(made, labels=labels + 5)
            if fault == "no reason":
                return attrs.evolve(made, reasons=["" for _ in p])
            if fault == "in place":
                logits *= 0
            if fault == "one too few":
                return attrs.evolve(made, reasons=made.reasons[1:])
            return made

        def state(self) -> Any:
            return {"cut": np.array(self.cut) if fault == "no JSON" else self.cut}

        def summary(self) -> Any:
            return {} if fault == "no summary" else {"cut": self.cut}

        def guarantee(self) -> Any:
            return {"level": 0.9} if fault == "no words" else None

    def build(self: Any, ctx: Any) -> Any:
        return Policy(0.123456)

    def restore(self: Any, state: Any, ctx: Any) -> Any:
        return Policy(round(state["cut"], 1) if fault == "rounds" else state["cut"])

    def requires(self: Any) -> Any:
        return ("someone",) if fault == "needs another" else ()

    return made("policy", build, restore=restore, requires=requires, mode="eager" if fault == "mode" else "fast")


def policy(check: str, fault: str, said: str) -> Case:
    return Case(contract=PolicyContract, check=check, cls=policy_of(fault), said=said, fault=fault)


POLICIES = [
    policy("test_decides_in_form", "outside its set", "not in its own prediction set"),
    policy("test_decides_in_form", "no probability", "a score is no probability"),
    policy("test_decides_in_form", "int32", "labels must be int64"),
    policy("test_decides_in_form", "no such class", f"neither a class nor ABSTAIN|{ABSTAIN}"),
    policy("test_decides_in_form", "no reason", "has no reason"),
    policy("test_decides_in_form", "in place", "writes into its argument"),
    policy("test_decides_in_form", "one too few", "of the shapes"),
    policy("test_decides_alone_as_in_a_batch", "median of the batch", "depends on the rest of its batch"),
    policy("test_survives_json", "no JSON", "state is no JSON value"),
    policy("test_survives_json", "rounds", "restored from its state it is another"),
    policy("test_explains_itself", "no summary", "summary is empty"),
    policy("test_explains_itself", "no words", "has no words"),
    policy("test_names_what_it_requires", "needs another", "it requires someone"),
    policy("test_speaks_the_kinds_language", "mode", "mode is 'eager', not one of 'fast', 'accurate', 'hybrid'"),
]


def tta_of(fault: str) -> type:
    def build(self: Any, ctx: Any) -> Any:
        import torch

        class Views:
            view_ids = ("whole", "left", "right") if fault == "no identity" else ("identity", "left", "right")
            min_side = 0 if fault == "no side" else 32

            def views(self, image: Any) -> Any:
                width = image.shape[-1]
                reach = max(1, (2 * width) // 5 if fault == "a gap" else (width + 1) // 2)
                shift = int(torch.randint(2, (9,)).sum()) if fault == "draws" else 0
                whole = ctx.to_input(image.roll(1, dims=2) if fault == "another identity" else image, ctx.image_size)
                if fault == "never whole":
                    whole = ctx.to_input(image[:, :, :reach], ctx.image_size)
                right = image[:, :, :reach] if fault == "never whole" else image[:, :, width - reach :]
                made = [whole, *(ctx.to_input(part, ctx.image_size) for part in (image[:, :, :reach], right))]
                if fault == "floats":
                    made[1] = made[1].float()
                if fault == "no multiple":
                    made[1] = made[1][:, :-1]
                return (
                    made[: 2 if fault == "one too few" else 3] if not shift else [m.roll(shift, dims=2) for m in made]
                )

            def fuse(self, logits: Any) -> Any:
                if fault == "a sum":
                    return logits.sum(axis=0)
                if fault == "rows":
                    return np.sort(logits.mean(axis=0), axis=0)
                if fault == "batch":
                    return logits.mean(axis=0) - logits.mean(axis=(0, 1))
                return logits if fault == "not fused" else logits.mean(axis=0)

        return Views()

    return made("tta", build)


def single_view(self: Any, ctx: Any) -> Any:
    """The identity alone, its logits made milder."""

    class Views:
        view_ids = ("identity",)
        min_side = 32

        def views(self, image: Any) -> Any:
            return [ctx.to_input(image, ctx.image_size)]

        def fuse(self, logits: Any) -> Any:
            return logits[0] * 0.5

    return Views()


def learning_tta_of(fault: str) -> type:
    restored: list[Any] = []

    def build(self: Any, ctx: Any) -> Any:
        return Learns(ctx)

    class Learns:
        view_ids = ("identity", "again")
        min_side = 32
        fits_on: Any = {"val_calib": None} if fault == "foreign split" else {"val_select": None}

        def __init__(self, ctx: Any, state: Any = None) -> None:
            self.ctx, self.state = ctx, state
            if state is not None and fault != "never ready":
                self.fits_on = {}

        def views(self, image: Any) -> Any:
            return [self.ctx.to_input(image, self.ctx.image_size)] * 2

        def fit(self, ctx: Any) -> Any:
            return {"weight": 0.1234567891234}

        def restore(self, state: Any) -> Any:
            if fault == "another each time":
                restored.append(state)
                state = {"weight": state["weight"] / len(restored)}
            return Learns(self.ctx, state if fault == "takes anything" else {"weight": state["weight"]})

        def fuse(self, logits: Any) -> Any:
            if self.state is None and fault != "unfitted":
                raise RoadworkError("not fitted")
            weight = (self.state or {}).get("weight", 0.5)
            return weight * logits[0] + (1 - weight) * logits[1] * (-3 if fault == "overrules" else 1)

    return made("tta", build)


def tta(check: str, fault: str, said: str) -> Case:
    return Case(contract=TtaContract, check=check, cls=tta_of(fault), said=said, fault=fault)


def learning_tta(check: str, fault: str, said: str) -> Case:
    return Case(contract=TtaContract, check=check, cls=learning_tta_of(fault), said=said, fault=fault)


TTAS = [
    tta("test_views_fit_the_model", "no side", "min_side is 0"),
    tta("test_views_fit_the_model", "floats", "the view left is torch.float32"),
    tta("test_views_fit_the_model", "no multiple", "no multiple of 8"),
    tta("test_views_fit_the_model", "one too few", "has 2 views, and view_ids names 3"),
    tta("test_identity_is_the_evaluation_transform", "no identity", 'no view is named "identity"'),
    tta("test_identity_is_the_evaluation_transform", "another identity", "is not ctx.to_input"),
    tta("test_draws_nothing", "draws", "two calls give other views"),
    tta("test_covers_the_frame", "never whole", "are in no view"),
    tta("test_covers_the_frame", "a gap", "parts out"),
    tta("test_fuses_rows_in_order", "a sum", "something else than what they agree on"),
    tta("test_fuses_rows_in_order", "rows", "rows turned round"),
    tta("test_fuses_rows_in_order", "batch", "depend on the rest of its batch|rows turned round"),
    tta("test_fuses_rows_in_order", "not fused", "are fused to"),
    Case(
        contract=TtaContract,
        check="test_identity_alone_is_no_augmentation",
        cls=made("tta", single_view),
        said="its logits are changed",
        fault="one view changed",
    ),
    learning_tta("test_learns_before_it_fuses", "unfitted", "it fuses before it was fitted"),
    learning_tta("test_learns_before_it_fuses", "foreign split", "asks to be fitted on val_calib"),
    learning_tta("test_learns_before_it_fuses", "never ready", "asks to be fitted again"),
    learning_tta("test_learns_before_it_fuses", "another each time", "it fuses otherwise"),
    learning_tta("test_learns_before_it_fuses", "takes anything", "not its own is taken"),
    learning_tta("test_fuses_rows_in_order", "overrules", "are overruled"),
]
CASES = [*CALIBRATORS, *POLICIES, *TTAS]
