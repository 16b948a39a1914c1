"""Test-time augmentation keeps what its kind promises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roadwork_core.testing import TtaContract

LEARNED: tuple[Mapping[str, Any], ...] = (
    {"fusion": "learned"},
    {"fusion": "learned", "learned": {"l2": 0.1, "temperatures": False}},
    {"fusion": "attention", "attention": {"steps": 12, "width": 4}},
)
FORMULAS: tuple[Mapping[str, Any], ...] = (
    *({"fusion": fusion} for fusion in ("mean_probability", "max", "entropy")),
    *(
        {"fusion": fusion, "select": "confident", "keep": keep}
        for fusion in ("mean_logit", "mean_probability", "max", "entropy")
        for keep in (0.3, 1.0)
    ),
)


class TestNone(TtaContract):
    component = "tta/none"


class TestFlip(TtaContract):
    component = "tta/flip"
    variants = (*FORMULAS, *LEARNED)


class TestFiveCrop(TtaContract):
    component = "tta/five_crop"
    variants = ({"share": 0.5}, {"share": 0.95}, *FORMULAS[-2:], *LEARNED)


class TestMultiscale(TtaContract):
    component = "tta/multiscale"
    variants = ({"scales": [0.3, 2.0], "flip": True}, *FORMULAS[-2:], *LEARNED)


class TestGrid(TtaContract):
    component = "tta/grid"
    variants = ({"tiles": 2, "overlap": 0.0}, *FORMULAS[-2:], *LEARNED)


class TestMultiview(TtaContract):
    component = "tta/multiview"
    variants = (
        {"scales": [1.0], "flip": False, "tiles": 2, "overlap": 0.0, "fusion": "entropy"},
        {"tiles": 0},
        *FORMULAS[-2:],
        *LEARNED,
    )


class TestChoose(TtaContract):
    component = "tta/choose"
    variants = (
        {"errors": 0.0, "folds": 3},
        {"candidates": [{"use": "flip"}, {"use": "five_crop", "fusion": "learned"}]},
        {"candidates": [{"use": "flip"}, {"use": "flip", **LEARNED[-1]}], "folds": 2},
    )
