"""Views cover the frame at any proportions, change resolution without padding, and fuse as their formulas say."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from roadwork_tta import Flip, Multiview, NoTta
from roadwork_tta.fusion import FUSIONS
from roadwork_tta.tiling import Crops, tile_boxes, tile_share
from torch import Tensor

from roadwork_core.data.preprocessing import Preprocessing
from roadwork_core.kinds import TtaContext


def build(component: Any, size: tuple[int, int] = (56, 56), multiple: int = 14, fit: Any = "crop") -> Any:
    preprocessing = Preprocessing(size=size, mean=(0, 0, 0), std=(1, 1, 1), fit=fit)
    context = TtaContext(image_size=size, size_multiple=multiple, num_classes=2, to_input=preprocessing.to_input)
    return component.build(context)


def picture(height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


sides = st.integers(1, 3000)


@settings(max_examples=300, deadline=None)
@given(
    frame=st.tuples(sides, sides),
    shape=st.tuples(st.integers(8, 600), st.integers(8, 600)),
    tiles=st.integers(2, 8),
    overlap=st.floats(0, 0.95),
)
def test_tiles_cover_every_pixel_and_stay_inside(
    frame: tuple[int, int], shape: tuple[int, int], tiles: int, overlap: float
) -> None:
    boxes = tile_boxes(frame, shape, tiles, overlap)
    assert len(boxes) == tiles * tiles
    covered = [np.zeros(frame[0], dtype=bool), np.zeros(frame[1], dtype=bool)]
    for top, left, height, width in boxes:
        assert top >= 0
        assert top + height <= frame[0]
        assert left >= 0
        assert left + width <= frame[1]
        covered[0][top : top + height] = True
        covered[1][left : left + width] = True
    # The boxes are a grid of rows and columns, so covering both sides covers the frame.
    assert {(box[0], box[1]) for box in boxes} == {(a, b) for a, *_ in boxes for _, b, *_ in boxes}
    assert covered[0].all()
    assert covered[1].all()


@settings(max_examples=200, deadline=None)
@given(frame=st.tuples(st.integers(200, 3000), st.integers(200, 3000)), overlap=st.floats(0, 0.6))
def test_tiles_have_the_inputs_proportions_unless_the_frame_is_a_panorama(
    frame: tuple[int, int], overlap: float
) -> None:
    for _, _, height, width in tile_boxes(frame, (224, 224), 3, overlap):
        if max(frame) * tile_share(3, overlap) <= min(frame):
            assert abs(height - width) <= 1
        else:
            assert min(height, width) == min(frame)


@settings(max_examples=100, deadline=None)
@given(length=st.integers(100, 3000), overlap=st.floats(0, 0.8), tiles=st.integers(2, 6))
def test_neighbours_overlap_by_the_part_that_was_asked_for(length: int, overlap: float, tiles: int) -> None:
    boxes = tile_boxes((length, length), (64, 64), tiles, overlap)
    lefts, side = [left for top, left, *_ in boxes if top == 0], boxes[0][3]
    for one, two in pairwise(lefts):
        assert one + side - two == pytest.approx(overlap * side, abs=2.5)


@pytest.mark.parametrize("frame", [(90, 160), (160, 90), (60, 400), (20, 30), (57, 56)])
@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_multiview_makes_fifteen_views_of_sizes_that_the_model_takes(frame: tuple[int, int], fit: str) -> None:
    tta = build(Multiview(), fit=fit)
    views = tta.views(picture(*frame))
    assert len(tta.view_ids) == len(set(tta.view_ids)) == len(views) == 15
    assert tta.view_ids[0] == "identity"
    assert {tuple(view.shape) for view in views} == {(3, 56, 56), (3, 42, 42), (3, 70, 70)}
    assert all(view.dtype is torch.uint8 for view in views)


def test_scales_change_resolution_and_do_not_pad() -> None:
    image = torch.full((3, 80, 80), 200, dtype=torch.uint8)
    for name, view in zip(tta_ids := build(Multiview()).view_ids, build(Multiview()).views(image), strict=True):
        assert (view == 200).all(), name
    assert "size_42x42" in tta_ids
    assert "size_70x70_flip" in tta_ids


@pytest.mark.parametrize("scale", [0.01, 0.3, 0.77, 1.13, 3.9])
def test_sizes_are_snapped_to_the_patch(scale: float) -> None:
    for view in build(Multiview(scales=(scale,), tiles=0), size=(56, 84)).views(picture(99, 77)):
        assert view.shape[1] % 14 == view.shape[2] % 14 == 0


def test_scales_that_snap_to_one_size_stand_once() -> None:
    assert build(Multiview(scales=(0.99, 1.0, 1.01), tiles=0)).view_ids == ("identity", "flip")


def test_flip_is_the_mirror_image_of_the_identity() -> None:
    image = picture(90, 160)
    identity, flipped = build(Flip()).views(image)
    assert torch.equal(identity, build(NoTta()).views(image)[0])
    assert torch.equal(flipped, identity.flip(-1))


def test_a_tile_of_a_panorama_is_seen_whole() -> None:
    """Each tile's own left and right edges are in its view, although its proportions are not the input's."""
    image = torch.zeros(3, 40, 800, dtype=torch.uint8)
    boxes = tile_boxes((40, 800), (56, 56), 3, 0.25)
    _, left, height, width = boxes[4]
    image[:, :, left : left + 20] = 255
    view = build(Multiview()).views(image)[6 + 4]
    assert height < width
    assert (view[:, :, 0] == 255).all()
    assert (view[:, :, -1] == 0).all()


def test_min_side_keeps_a_tile_from_being_enlarged() -> None:
    tta = build(Multiview(scales=(1.0,), flip=False))
    boxes = tile_boxes((tta.min_side, tta.min_side), (56, 56), 3, 0.25)
    assert boxes[0][2] >= 56
    assert build(Multiview(scales=(2.0,), tiles=0)).min_side == 112
    assert build(NoTta()).min_side == 56


def logits(views: int = 5, n: int = 40, classes: int = 3) -> Any:
    return np.random.default_rng(0).normal(0, 3, (views, n, classes))


def softmax(values: Any) -> Any:
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def test_fused_probabilities_are_the_formulas() -> None:
    found, p = logits(), softmax(logits())
    np.testing.assert_allclose(FUSIONS["mean_logit"](found), found.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(softmax(FUSIONS["mean_probability"](found)), p.mean(axis=0), rtol=1e-10)
    best = np.array([p[:, row].max(axis=-1).argmax() for row in range(40)])
    np.testing.assert_array_equal(FUSIONS["max"](found), found[best, np.arange(40)])
    information = np.log(3) + (p * np.log(p)).sum(axis=-1)
    weights = information / information.sum(axis=0)
    np.testing.assert_allclose(softmax(FUSIONS["entropy"](found)), (weights[..., None] * p).sum(axis=0), rtol=1e-6)


@pytest.mark.parametrize("name", list(FUSIONS))
def test_fusion_survives_certain_and_flat_views(name: str) -> None:
    extreme = np.stack([np.array([[1000.0, -1000.0], [0.0, 0.0]]), np.array([[-5.0, 5.0], [0.0, 0.0]])])
    fused = FUSIONS[name](extreme)
    assert np.isfinite(fused).all()
    np.testing.assert_allclose(softmax(fused)[1], [0.5, 0.5], atol=1e-9)


def test_one_view_is_handed_on_to_the_bit() -> None:
    found = logits(views=1)
    assert np.array_equal(build(NoTta()).fuse(found), found[0])


def test_a_single_tile_is_refused() -> None:
    with pytest.raises(ValueError, match="tiles = 1 is the whole picture"):
        Multiview(tiles=1)


@settings(max_examples=200, deadline=None)
@given(
    frame=st.tuples(sides, sides), shape=st.tuples(st.integers(8, 600), st.integers(8, 600)), share=st.floats(0.5, 0.99)
)
def test_five_crops_cover_every_pixel_and_stay_inside(
    frame: tuple[int, int], shape: tuple[int, int], share: float
) -> None:
    boxes = Crops(per_side=2, overlap=2 - 1 / share, centre=True).boxes(frame, shape)
    assert len(boxes) == 5
    covered = np.zeros((2, 3000), dtype=bool)
    for top, left, height, width in boxes:
        assert 0 <= top <= frame[0] - height
        assert 0 <= left <= frame[1] - width
    for top, left, height, width in boxes[:4]:
        covered[0, top : top + height] = True
        covered[1, left : left + width] = True
    assert covered[0, : frame[0]].all()
    assert covered[1, : frame[1]].all()
    # Four corners, each in its own, cover the frame where their rows and columns do.
    assert {(box[0] > 0, box[1] > 0) for box in boxes[:4]} >= {(False, False)}
    _, _, tall, wide = boxes[4]
    assert abs(2 * boxes[4][0] + tall - frame[0]) <= 1
    assert abs(2 * boxes[4][1] + wide - frame[1]) <= 1


def test_a_crop_takes_the_share_that_was_asked_for() -> None:
    assert {box[2:] for box in Crops(per_side=2, overlap=2 - 1 / 0.75, centre=True).boxes((400, 400), (56, 56))} == {
        (300, 300)
    }
