"""Views go through the model together: in batches of bounded size, and with the answers that each would get alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from roadwork_tta import FiveCrop, Flip, Grid, Multiscale, Multiview, NoTta
from torch import Tensor, nn

from roadwork_core.data.preprocessing import Preprocessing
from roadwork_core.errors import RoadworkError
from roadwork_core.inference import Scorer, build_tta

PREPROCESSING = Preprocessing(size=(28, 28), mean=(0.5, 0.5, 0.5), std=(0.3, 0.3, 0.3), size_multiple=7)
ALL = [NoTta(), Flip(), FiveCrop(), Multiscale(), Grid(), Multiview(), Multiview(select="confident", fusion="entropy")]


class Network(nn.Module):
    """Takes inputs of any size, and remembers their shapes."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Conv2d(3, 8, 5, 2), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
            self.last = nn.Linear(8, 2)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, pixels: Tensor) -> Tensor:
        self.seen.append(tuple(pixels.shape))
        logits: Tensor = self.last(self.layers(pixels).amax(dim=(2, 3)))
        return logits


def scorer(component: Any, batch_size: int = 16) -> Scorer:
    return Scorer(Network(), PREPROCESSING, build_tta(component, PREPROCESSING, 2), batch_size=batch_size)


def pictures(sizes: Sequence[tuple[int, int]], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for size in sizes]


MIXED = [(40, 60), (60, 40), (33, 130), (28, 28), (20, 24), (90, 91)]


@pytest.mark.parametrize(
    "alone", [Multiscale(scales=(1.0,)), Multiview(scales=(), flip=False, tiles=0), Multiscale(scales=())]
)
@pytest.mark.parametrize("fusion", ["mean_logit", "mean_probability", "max", "entropy", "learned", "attention"])
def test_the_identity_alone_is_no_augmentation_to_the_bit(alone: Any, fusion: Any) -> None:
    import attrs

    images = pictures(MIXED)
    expected = scorer(NoTta()).logits(images)
    assert np.array_equal(scorer(attrs.evolve(alone, fusion=fusion)).logits(images), expected)


@settings(max_examples=15, deadline=None)
@given(
    component=st.sampled_from(ALL),
    order=st.permutations(range(len(MIXED))),
    cuts=st.sets(st.integers(1, len(MIXED) - 1)),
    batch_size=st.integers(1, 40),
)
def test_who_else_is_in_the_batch_changes_no_decision(
    component: Any, order: list[int], cuts: set[int], batch_size: int
) -> None:
    images = pictures(MIXED)
    expected = scorer(component).logits(images)
    made = scorer(component, batch_size)
    shuffled = [images[place] for place in order]
    edges = [0, *sorted(cuts), len(MIXED)]
    parts = [made.logits(shuffled[start:end]) for start, end in pairwise(edges)]
    logits = np.concatenate(parts)[np.argsort(order)]
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert np.array_equal(logits.argmax(axis=1), expected.argmax(axis=1))


@pytest.mark.parametrize("component", ALL)
@pytest.mark.parametrize("batch_size", [1, 4, 9])
def test_a_batch_holds_no_more_pixels_than_that_many_inputs(component: Any, batch_size: int) -> None:
    made = scorer(component, batch_size)
    made.logits(pictures(MIXED))
    assert isinstance(made.model, Network)
    for count, _, height, width in made.model.seen:
        assert count == 1 or count * height * width <= batch_size * 28 * 28


def test_views_of_one_size_go_together_whichever_picture_they_are_of() -> None:
    made = scorer(Multiview(), batch_size=1000)
    made.logits(pictures(MIXED))
    assert isinstance(made.model, Network)
    assert sorted(made.model.seen) == [(12, 3, 21, 21), (12, 3, 35, 35), (66, 3, 28, 28)]


def test_the_views_one_by_one_are_fused_to_the_same() -> None:
    made, images = scorer(Multiview(fusion="mean_probability")), pictures(MIXED)
    views = np.stack(
        [
            np.concatenate([made.model(PREPROCESSING.normalise(view[None])).detach().double() for view in of_one])
            for of_one in (made.tta.views(image) for image in images)
        ],
        axis=1,
    )
    np.testing.assert_allclose(made.view_logits(images), views, atol=1e-5)
    np.testing.assert_allclose(made.logits(images), made.tta.fuse(views), atol=1e-5)


def test_no_pictures_give_no_rows() -> None:
    assert scorer(Multiview()).view_logits([]).shape == (15, 0, 0)


def test_what_was_not_fitted_is_refused_by_the_core() -> None:
    with pytest.raises(RoadworkError, match=r"has not been fitted \(on val_select\)"):
        scorer(Flip(fusion="learned")).logits(pictures(MIXED))


def test_a_state_of_another_augmentation_is_refused() -> None:
    for component, state in ((Flip(), {"weights": {}}), (Flip(fusion="learned"), {"weights": {"identity": 1.0}})):
        with pytest.raises(RoadworkError, match="cannot be restored"):
            build_tta(component, PREPROCESSING, 2, state)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    patch=st.sampled_from([1, 7, 14, 16]),
    component=st.sampled_from(
        [
            FiveCrop(share=0.5),
            FiveCrop(share=0.9),
            Grid(tiles=2, overlap=0.0),
            Grid(tiles=4),
            Multiscale(scales=(0.33, 1.7)),
        ]
    ),
)
def test_any_picture_gives_views_that_the_patches_divide(height: int, width: int, patch: int, component: Any) -> None:
    side = 2 * patch if patch > 1 else 13
    preprocessing = Preprocessing(size=(side, 2 * side), mean=(0, 0, 0), std=(1, 1, 1), size_multiple=patch)
    tta = build_tta(component, preprocessing, 2)
    [image] = pictures([(height, width)])
    views = tta.views(image)
    assert len(views) == len(tta.view_ids) == len(set(tta.view_ids))
    assert tta.view_ids[0] == "identity"
    assert torch.equal(views[0], preprocessing.to_input(image))
    for view in views:
        assert view.shape[1] % patch == view.shape[2] % patch == 0
