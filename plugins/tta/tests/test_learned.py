"""Learned fusions reach the optimum of their problem, whatever the order of views, and never overrule agreement."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roadwork_tta.attention import AttentionFusion
from roadwork_tta.attention_training import parts
from roadwork_tta.components import AttentionOptions, Flip, LearnedOptions
from roadwork_tta.fusion import FUSIONS, mean_logit, most_certain
from roadwork_tta.learned import LearnedFusion, onto_simplex, simplex_weights, temperatures

from roadwork_core.errors import RoadworkError
from roadwork_core.learned_tta import TtaFitContext, ViewScores
from roadwork_core.metrics import log_softmax


def scores(noise: Sequence[float], n: int = 400, seed: int = 0, classes: int = 2, sharp: float = 1.0) -> ViewScores:
    """Views whose logits are the log odds of the truth under Gaussian noise of these deviations, times `sharp`."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    logits = np.stack([np.eye(classes)[labels] * 2 + deviation * rng.normal(size=(n, classes)) for deviation in noise])
    return ViewScores(logits=sharp * logits, labels=labels.astype(np.int64), groups=np.arange(n, dtype=np.int64) // 2)


def context(found: ViewScores, split: str = "val_select") -> TtaFitContext:
    return TtaFitContext(splits={split: found}, positive=1, seed=0, report=lambda _: None)


def objective(weights: Any, p: Any, l2: float) -> float:
    return float(-np.log(weights @ p).sum() + l2 * len(weights) * ((weights - 1 / len(weights)) ** 2).sum())


@pytest.mark.parametrize("l2", [0.0, 1.0, 30.0])
@pytest.mark.parametrize("noise", [(1, 2), (1, 1, 4, 4), (0.5, 1, 1.5, 2, 2.5, 3, 3.5)])
def test_the_weights_are_those_of_an_independent_solver(noise: Sequence[float], l2: float) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    found = scores(noise)
    log_p = log_softmax(found.logits)[:, np.arange(400), found.labels]
    weights = simplex_weights(log_p, l2)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    peer = optimize.minimize(
        lambda w: objective(w, np.exp(log_p), l2),
        np.full(len(noise), 1 / len(noise)),
        method="SLSQP",
        bounds=[(0, 1)] * len(noise),
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-13, "maxiter": 1000},
    )
    assert objective(weights, np.exp(log_p), l2) <= objective(peer.x, np.exp(log_p), l2) + 1e-7
    np.testing.assert_allclose(weights, peer.x, atol=2e-3)


def test_the_pull_leads_to_equal_weights() -> None:
    found = scores((1, 3, 3))
    log_p = log_softmax(found.logits)[:, np.arange(400), found.labels]
    free, pulled, equal = (simplex_weights(log_p, l2) for l2 in (0.0, 30.0, 1e7))
    assert free[0] > pulled[0] > 1 / 3
    np.testing.assert_allclose(equal, 1 / 3, atol=1e-4)


def test_a_view_that_knows_nothing_gets_next_to_nothing() -> None:
    rng = np.random.default_rng(0)
    found = scores((1, 1))
    logits = np.concatenate([found.logits, 5 * rng.normal(size=(1, *found.logits.shape[1:]))])
    useless = ViewScores(logits=logits, labels=found.labels, groups=found.groups)
    fusion = LearnedFusion(("identity", "flip", "noise"), LearnedOptions(temperatures=False))
    assert fusion.fit(context(useless))["weights"]["noise"] < 0.02


@pytest.mark.parametrize("true", [0.3, 1.0, 4.2])
def test_temperatures_are_those_of_a_fine_grid(true: float) -> None:
    rng = np.random.default_rng(1)
    z = rng.normal(0, 2, (1, 1500, 3))
    labels = (log_softmax(z)[0] + rng.gumbel(size=(1500, 3))).argmax(axis=1)
    found = temperatures(true * z, labels)[0]
    assert found == pytest.approx(true, rel=0.15)
    grid = np.exp(np.linspace(-1.5, 1.7, 801))
    targets = np.zeros((1500, 3))
    for row, label in enumerate(labels):
        same = int((labels == label).sum())
        targets[row] = [(same + 1 if other == label else 1) / (same + 3) for other in range(3)]
    assert targets.sum(axis=1) == pytest.approx(1)
    loss = [-(targets * log_softmax(true * z[0] / t)).sum(axis=1).mean() for t in grid]
    assert found == pytest.approx(grid[int(np.argmin(loss))], rel=3e-3)


@pytest.mark.parametrize("margin", [0.5, 4.0, 60.0])
def test_answers_that_are_all_right_ask_for_no_more_certainty_than_so_many_can_give(margin: float) -> None:
    """Ten of each class, each right by one margin: the temperature makes them certain to 11 in 12 (Platt, 1999)."""
    labels = np.repeat([0, 1], 10)
    logits = np.zeros((1, 20, 2))
    logits[0, np.arange(20), labels] = margin
    assert temperatures(logits, labels)[0] == pytest.approx(margin / np.log(11), rel=1e-9)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=12))
def test_the_projection_is_the_nearest_point_of_the_simplex(values: list[float]) -> None:
    point = np.array(values)
    nearest = onto_simplex(point)
    assert nearest.min() >= 0
    assert nearest.sum() == pytest.approx(1, abs=1e-9)
    # Every corner lies on the far side of the plane through the projection (the variational inequality).
    for corner in np.eye(len(values)):
        assert (point - nearest) @ (corner - nearest) <= 1e-7


def fitted(fusion: Any, found: ViewScores, split: str) -> Any:
    return fusion.restore(json.loads(json.dumps(fusion.fit(context(found, split)))))


FUSERS: Mapping[str, Any] = {
    "val_select": lambda ids: LearnedFusion(ids, LearnedOptions()),
    "train": lambda ids: AttentionFusion(ids, AttentionOptions(steps=25, width=4)),
}


@pytest.mark.parametrize("split", list(FUSERS))
@settings(max_examples=6, deadline=None)
@given(order=st.permutations(range(4)))
def test_the_order_of_the_views_does_not_matter(split: str, order: list[int]) -> None:
    found, ids = scores((1, 1.5, 2, 3), n=120), ("identity", "flip", "tile_0_0", "tile_0_1")
    turned = ViewScores(logits=found.logits[order], labels=found.labels, groups=found.groups)
    first = fitted(FUSERS[split](ids), found, split)
    second = fitted(FUSERS[split](tuple(ids[view] for view in order)), turned, split)
    fresh = scores((1, 1.5, 2, 3), n=50, seed=9).logits
    np.testing.assert_allclose(first.fuse(fresh), second.fuse(fresh[order]), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    fusion=st.sampled_from(sorted(FUSIONS)),
    select=st.sampled_from(["none", "confident"]),
    keep=st.floats(0.05, 1),
    seed=st.integers(0, 2**32 - 1),
    saturated=st.booleans(),
)
def test_the_order_of_the_views_does_not_matter_to_a_formula(
    fusion: Any, select: Any, keep: float, seed: int, saturated: bool
) -> None:
    from roadwork_tta.fusing import Formula

    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (6, 20, 3))
    if saturated:
        logits = np.round(logits) * 400
    ids, order = ("identity", "a", "b", "c", "d", "e"), rng.permutation(6)
    options = Flip(fusion=fusion, select=select, keep=keep)
    first = Formula(options, ids).fuse(logits)
    second = Formula(options, tuple(ids[view] for view in order)).fuse(logits[order])
    np.testing.assert_allclose(first, second, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("split", list(FUSERS))
def test_a_row_is_fused_alike_in_a_batch_of_any_size(split: str) -> None:
    fusion = fitted(FUSERS[split](("identity", "flip", "c")), scores((1, 2, 3)), split)
    logits = scores((1, 2, 3), n=101, seed=3).logits
    whole = fusion.fuse(logits)
    for size in (1, 7, 50):
        parts = [fusion.fuse(np.ascontiguousarray(logits[:, at : at + size])) for at in range(0, 101, size)]
        assert np.array_equal(np.concatenate(parts), whole)


def test_attention_starts_as_the_mean_and_keeps_it_where_nothing_is_gained() -> None:
    """Views without noise of their own give nothing to weigh; what is kept is the step that did best held out."""
    found = scores((1,), n=80)
    alike = ViewScores(logits=np.repeat(found.logits, 3, axis=0), labels=found.labels, groups=found.groups)
    fusion = AttentionFusion(("identity", "b", "c"), AttentionOptions(steps=1, lr=1e-12))
    ready = fitted(fusion, alike, "train")
    np.testing.assert_allclose(ready.fuse(alike.logits), mean_logit(alike.logits), atol=1e-6)
    record = fitted(AttentionFusion(("identity", "b", "c"), AttentionOptions()), alike, "train")._state["training"]
    assert record["nll"] <= record["mean_logit_nll"]


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.integers(0, 5))
def test_attention_chooses_its_step_by_groups_that_it_is_not_trained_on(groups: list[int], seed: int) -> None:
    inside, outside = (set(part.tolist()) for part in parts(np.array(groups, dtype=np.int64), seed))
    assert inside | outside == set(range(len(groups)))
    trained_on, held_out = ({groups[index] for index in part} for part in (inside, outside))
    assert not trained_on & held_out or len(set(groups)) == 1
    assert len(held_out) == max(1, round(0.2 * len(set(groups))))


def test_attention_learns_which_view_to_believe_from_the_others() -> None:
    """The second view is right where the first is unsure, and wrong where it is sure: no fixed weight can say that."""

    def pictures(seed: int) -> ViewScores:
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 2, 600)
        sure = rng.random(600) < 0.5
        sign = np.where(labels == 1, 1.0, -1.0)
        first = np.where(sure, 4 * sign, 0.3 * rng.normal(size=600))
        second = np.where(sure, -6 * sign, 3 * sign) + 0.1 * rng.normal(size=600)
        logits = np.stack([np.stack([-z / 2, z / 2], axis=1) for z in (first, second)])
        return ViewScores(logits=logits, labels=labels.astype(np.int64), groups=np.arange(600, dtype=np.int64))

    def error(fused: Any, found: ViewScores) -> float:
        return float((fused.argmax(axis=1) != found.labels).mean())

    known, fresh = pictures(0), pictures(1)
    attention = fitted(AttentionFusion(("identity", "b"), AttentionOptions()), known, "train")
    weighted = fitted(LearnedFusion(("identity", "b"), LearnedOptions()), known, "val_select")
    assert error(attention.fuse(fresh.logits), fresh) < 0.02
    assert error(weighted.fuse(fresh.logits), fresh) > 0.2
    assert error(mean_logit(fresh.logits), fresh) > 0.2


def test_the_learned_fusion_is_better_than_the_mean_where_views_differ() -> None:
    noise = (0.8, 3, 3, 3)
    fusion = fitted(LearnedFusion(tuple("abcd"), LearnedOptions()), scores(noise, sharp=3), "val_select")
    fresh = scores(noise, seed=5, sharp=3)

    def nll(fused: Any) -> float:
        return float(-log_softmax(fused)[np.arange(400), fresh.labels].mean())

    assert nll(fusion.fuse(fresh.logits)) < nll(mean_logit(fresh.logits)) - 0.05


@pytest.mark.parametrize("name", ["learned", "attention"])
def test_untrained_it_is_refused(name: Any) -> None:
    from .test_views import build

    with pytest.raises(RoadworkError, match=f'fusion = "{name}" has not been fitted'):
        build(Flip(fusion=name)).fuse(np.zeros((2, 3, 2)))


@pytest.mark.parametrize(
    "state",
    [
        {"weights": {"a": 1.0}, "temperatures": {"a": 1.0, "b": 1.0}},
        {"weights": {"a": 0.7, "b": 0.7}, "temperatures": {"a": 1.0, "b": 1.0}},
        {"weights": {"a": 1.5, "b": -0.5}, "temperatures": {"a": 1.0, "b": 1.0}},
        {"weights": {"a": 0.5, "b": 0.5}, "temperatures": {"a": 0.0, "b": 1.0}},
        {"weights": {"a": float("nan"), "b": 0.5}, "temperatures": {"a": 1.0, "b": 1.0}},
    ],
)
def test_a_state_that_makes_no_sense_is_refused(state: Any) -> None:
    with pytest.raises(ValueError, match=r"views|weights|temperatures"):
        LearnedFusion(("a", "b"), LearnedOptions()).restore(state)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), keep=st.floats(0.01, 1), views=st.integers(2, 9))
def test_the_identity_is_always_kept_and_nobody_less_certain_than_one_left_out(
    seed: int, keep: float, views: int
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, (views, 15, 2))
    identity = int(rng.integers(views))
    kept = most_certain(logits, identity, keep)
    assert kept[identity].all()
    distance = np.abs(logits[..., 1] - logits[..., 0])  # with two classes the certain view is the one far from the cut
    others = np.delete(np.arange(views), identity)
    wanted = int(np.ceil(keep * views - 1e-9))
    assert (kept.sum(axis=0) >= wanted).all()
    assert (kept.sum(axis=0) <= wanted + 1).all()
    for row in range(15):
        inside, outside = others[kept[others, row]], others[~kept[others, row]]
        if len(inside) and len(outside):
            assert distance[inside, row].min() >= distance[outside, row].max() - 1e-6


def test_selection_and_learned_weights_are_not_asked_for_together() -> None:
    with pytest.raises(ValueError, match="both weigh the views"):
        Flip(select="confident", fusion="learned")
