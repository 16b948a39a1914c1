"""The masked autoencoder against transformers' own; what is hidden stays hidden; what cannot be masked is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from roadwork_adapters import Mae
from roadwork_adapters.mae import mae_loss, normalised, patches_of, sine_positions
from torch import Tensor, nn

from roadwork_core.data.preprocessing import Preprocessing
from roadwork_core.errors import UsageError
from roadwork_core.kinds import ObjectiveContext
from roadwork_core.testing import stand_ins

transformers = pytest.importorskip("transformers")

VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SMALL: dict[str, Any] = {"width": 16, "layers": 1, "head_width": 8}


def images(number: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(number, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def made(component: Any, backbone: Any) -> Any:
    torch.manual_seed(0)
    return component.build(ObjectiveContext(backbone=backbone, feature_dim=16, image_size=(32, 32), total_steps=20))


class Pooled(nn.Module):
    """A model of transformers in a backbone's clothes, its tokens averaged."""

    def __init__(self, model: nn.Module, blocks: list[nn.Module], patch: int = 8) -> None:
        super().__init__()
        self.model = model
        self._blocks = blocks
        self.preprocessing = Preprocessing(size=(32, 32), mean=(0, 0, 0), std=(1, 1, 1), size_multiple=patch)

    def forward(self, pictures: Tensor) -> Any:
        return self.model(pictures).last_hidden_state.flatten(2).mean(dim=1)

    def blocks(self) -> list[nn.Module]:
        return self._blocks


def of_transformers(name: str, **options: Any) -> Pooled:
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**{**VIT, "image_size": 32, "patch_size": 8, **options})
    model = transformers.AutoModel.from_config(config).eval()
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList)]
    longest: nn.ModuleList = max(lists, key=lambda found: len(list(found.parameters())))
    return Pooled(model, list(longest))


@pytest.mark.parametrize("normalise", [True, False])
def test_the_loss_is_that_of_transformers_own_autoencoder(normalise: bool) -> None:
    config = transformers.ViTMAEConfig(
        **VIT, image_size=32, patch_size=8, decoder_hidden_size=16, decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2, decoder_intermediate_size=16, norm_pix_loss=normalise,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = transformers.ViTMAEForPreTraining(config).eval()
    pictures = images()
    with torch.no_grad():
        answer = theirs(pixel_values=pictures, noise=torch.rand(4, 16))
    # A patch is (row, column, channel) there, (channel, row, column) here.
    guesses = answer.logits.unflatten(2, (8, 8, 3)).permute(0, 1, 4, 2, 3).flatten(2)
    targets = patches_of(pictures, 8)
    found = mae_loss(guesses, normalised(targets) if normalise else targets, answer.mask)
    torch.testing.assert_close(found, answer.loss)


def test_the_patches_are_those_of_the_picture() -> None:
    picture = images(1)[0]
    expected = [
        picture[:, top : top + 8, left : left + 8].flatten() for top in (0, 8, 16, 24) for left in (0, 8, 16, 24)
    ]
    assert torch.equal(patches_of(picture[None], 8)[0], torch.stack(expected))


def test_positions_are_sines_and_cosines_of_row_and_column() -> None:
    found = sine_positions((3, 5), 24).double().numpy()
    for row in range(3):
        for column in range(5):
            angles = [place / 10_000 ** (np.arange(6) / 6) for place in (row, column)]
            expected = np.concatenate([wave(angle) for angle in angles for wave in (np.sin, np.cos)])
            np.testing.assert_allclose(found[row * 5 + column], expected, atol=1e-6)


@pytest.mark.parametrize("family", ["stand_in", "ViT", "Dinov2", "Dinov2WithRegisters", "CLIPVision", "SiglipVision"])
def test_what_is_hidden_has_no_say_in_the_features_and_what_is_seen_has(family: str) -> None:
    backbone: Any = stand_ins.backbone() if family == "stand_in" else of_transformers(family)
    objective = made(Mae(**SMALL), backbone)
    pictures = images()

    def features(changed: Tensor) -> Tensor:
        torch.manual_seed(7)
        found: Tensor = objective([changed])[1]
        return found

    torch.manual_seed(7)
    order = torch.rand(4, 16).argsort(dim=1)
    seen = torch.zeros(4, 16).scatter(1, order[:, :4], 1.0).reshape(4, 1, 4, 4)
    seen = seen.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    assert float(seen.mean()) == 0.25
    noise = images(seed=3)
    torch.testing.assert_close(features(pictures + noise * (1 - seen)), features(pictures))
    assert not torch.allclose(features(pictures + noise * seen), features(pictures), atol=1e-4)


def test_the_decoder_puts_each_token_where_its_patch_was() -> None:
    """With everything but positions made plain, each guess is what its own place says."""
    objective = made(Mae(**SMALL), stand_ins.backbone())
    objective.decoder, objective.norm, objective.leave = (nn.Identity() for _ in range(3))
    objective.enter = nn.Identity()
    objective.positions.zero_()
    kept = torch.tensor([[5, 0, 14, 9], [1, 2, 3, 15]])
    tokens = torch.randn(2, 4, 16)
    found = objective._decoded(tokens, kept)
    for row in range(2):
        for place in range(16):
            expected = tokens[row, kept[row].tolist().index(place)] if place in kept[row] else objective.mask_token
            assert torch.equal(found[row, place], expected)


def test_it_learns_and_leaves_nothing_in_the_backbone() -> None:
    backbone = of_transformers("ViT")
    objective = made(Mae(**SMALL, normalise_patches=False), backbone)
    pictures = stand_ins.pictures(32).float() / 255
    trained = {id(p): p for module in (backbone, objective) for p in module.parameters()}
    optimizer = torch.optim.AdamW(list(trained.values()), lr=3e-3)
    losses = []
    for step in range(120):
        optimizer.zero_grad()
        loss, _ = objective([pictures])
        loss.backward()
        optimizer.step()
        objective.after_step(step)
        losses.append(float(loss.detach()))
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:5])
    assert not backbone.blocks()[0]._forward_pre_hooks
    assert not backbone.blocks()[-1]._forward_hooks


def swin() -> Pooled:
    config = transformers.SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4
    )
    model: Any = transformers.AutoModel.from_config(config).eval()
    return Pooled(model, list(model.encoder.layers))


REFUSED: list[tuple[Any, str]] = [
    (lambda: of_transformers("DINOv3ViT"), "do not take a part of the patches"),
    (swin, "not with a token for each|part of the patches"),
    (lambda: Pooled(nn.Sequential(nn.Conv2d(3, 4, 3)), [nn.Identity()], patch=1), "into patches"),
]


@pytest.mark.parametrize(("backbone", "reason"), REFUSED)
def test_a_backbone_that_cannot_be_masked_is_refused(backbone: Any, reason: str) -> None:
    with pytest.raises(UsageError, match=f"the objective mae cannot train this backbone.*({reason})"):
        made(Mae(**SMALL), backbone())


def test_a_ratio_that_hides_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="none would be masked"):
        made(Mae(**SMALL, mask_ratio=0.01), stand_ins.backbone())
    with pytest.raises(ValueError, match="multiple of head_width"):
        Mae(width=20, head_width=16)
