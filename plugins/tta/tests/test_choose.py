"""Of several augmentations the cheapest that is not clearly worse is taken, on errors that it was not fitted to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from roadwork_tta import Choose, FiveCrop, Flip, Multiscale, Multiview, NoTta
from roadwork_tta.choosing import unique_names
from roadwork_tta.components import AttentionOptions, LearnedOptions
from roadwork_tta.judging import judge, pick, standard_error

from roadwork_core.errors import RoadworkError
from roadwork_core.learned_tta import TtaFitContext, ViewScores

from .test_learned import scores
from .test_views import build, picture


def context(found: ViewScores, **more: ViewScores) -> TtaFitContext:
    return TtaFitContext(splits={"val_select": found, **more}, positive=1, seed=0, report=lambda _: None)


def chosen(component: Any, found: ViewScores, **more: ViewScores) -> Any:
    return build(component).fit(context(found, **more))


def test_shared_views_are_computed_once() -> None:
    tta = build(Choose(candidates=(NoTta(), Flip(), Multiscale(flip=True), Multiview(), FiveCrop())))
    # 15 of multiview, of which flip and multiscale are part, and five crops.
    assert len(tta.view_ids) == 15 + 5
    assert len(tta.views(picture(90, 120))) == 20
    assert tta.fits_on == {"val_select": None}


def test_each_candidate_is_given_its_own_views() -> None:
    image, candidates = picture(90, 120), (NoTta(), FiveCrop(), Multiview(), Multiscale(scales=(0.5, 0.8)))
    tta = build(Choose(candidates=candidates))
    views = tta.views(image)
    for candidate, places in zip(candidates, tta._places, strict=True):
        for place, view in zip(places, build(candidate).views(image), strict=True):
            assert torch.equal(views[place], view)


def test_the_chosen_one_fuses_as_it_would_alone() -> None:
    component = Choose(candidates=(NoTta(), Flip(fusion="max")), errors=0.0)
    found = scores((3, 0.5))
    state = chosen(component, found)
    assert state["chosen"] == "flip"
    restored = build(component).restore(state)
    alone = build(Flip(fusion="max"))
    assert list(restored.view_ids) == list(alone.view_ids)
    assert np.array_equal(restored.fuse(found.logits), alone.fuse(found.logits))


def test_what_gains_nothing_is_not_paid_for() -> None:
    """The mirror image repeats the identity: equal losses, so the cheaper one is taken, whatever the margin."""
    found = scores((1,))
    twice = ViewScores(logits=np.repeat(found.logits, 2, axis=0), labels=found.labels, groups=found.groups)
    for errors in (0.0, 1.0):
        assert chosen(Choose(candidates=(Flip(), NoTta()), errors=errors), twice)["chosen"] == "none"


def test_a_clear_gain_is_paid_for_and_a_wide_margin_is_not() -> None:
    found = scores((2, 2), n=1000)
    assert chosen(Choose(candidates=(NoTta(), Flip())), found)["chosen"] == "flip"
    assert chosen(Choose(candidates=(NoTta(), Flip()), errors=1e6), found)["chosen"] == "none"


def test_a_fusion_is_judged_on_samples_that_it_was_not_fitted_on() -> None:
    """Weights of 12 views from 40 samples flatter themselves; the cross-fitted loss is above the one in hindsight."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 40)
    found = ViewScores(
        logits=rng.normal(0, 2, (15, 40, 2)), labels=labels.astype(np.int64), groups=np.arange(40, dtype=np.int64)
    )
    tta = build(Multiview(fusion="learned", learned=LearnedOptions(l2=0.0)))
    judged = judge("learned", tta, context(found), cost=16.0, folds=5)
    ready = tta.restore(tta.fit(context(found)))
    fused = ready.fuse(found.logits)
    hindsight = -(fused - np.logaddexp(fused[:, :1], fused[:, 1:]))[np.arange(40), labels].mean()
    assert judged.losses.mean() > hindsight + 0.01


def test_attention_within_a_choice_learns_on_train() -> None:
    network = AttentionOptions(steps=10, width=2)
    component = Choose(candidates=(NoTta(), Flip(fusion="attention", attention=network)), errors=0.0)
    assert dict(build(component).fits_on) == {"val_select": None, "train": 2000}
    state = chosen(component, scores((3, 1), n=400), train=scores((3, 1), n=200, seed=4))
    assert state["chosen"] == "flip"
    assert build(component).restore(state).fits_on == {}


def test_the_standard_error_is_that_of_group_means() -> None:
    """Against the textbook: groups of two, whose means are independent."""
    values = np.random.default_rng(0).normal(size=200)
    means = values.reshape(100, 2).mean(axis=1)
    assert standard_error(values, np.arange(200) // 2) == pytest.approx(means.std(ddof=1) / 10, rel=1e-12)


def test_the_margin_is_counted_in_errors_of_the_paired_difference() -> None:
    import attrs

    base = judge("none", build(NoTta()), context(scores((2,))), cost=1.0, folds=5)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=400)
    better = attrs.evolve(base, name="better", cost=2.0, losses=base.losses - 0.1 * (noise - noise.mean()) - 0.01)
    ratio = 0.01 / standard_error(base.losses - better.losses, base.groups)
    assert pick([base, better], 0.99 * ratio) == 1
    assert pick([base, better], 1.01 * ratio) == 0


def test_unchosen_it_is_refused() -> None:
    with pytest.raises(RoadworkError, match="has been chosen"):
        build(Choose(candidates=(NoTta(), Flip()))).fuse(np.zeros((2, 2, 2)))


@pytest.mark.parametrize(
    ("candidates", "said"),
    [
        ((Flip(),), "at least two"),
        ((Flip(), Flip()), "two are alike"),
        ((Flip(), Choose()), "a choice among choices"),
    ],
)
def test_a_choice_that_is_none_is_refused(candidates: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Choose(candidates=candidates)


def test_candidates_of_one_name_are_told_apart_by_what_was_changed() -> None:
    several = (Flip(), Flip(fusion="attention", attention=AttentionOptions(samples=300)), NoTta())
    assert unique_names(several) == ["flip", "flip fusion=attention attention.samples=300", "none"]
