"""The encoder of a masked autoencoder sees whole pictures: it answers as transformers' own does with nothing hidden."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from roadwork_backbones import Transformers

from roadwork_core.errors import RoadworkError
from roadwork_core.kinds import BackboneContext

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
DECODER = {f"decoder_{name}": value for name, value in SMALL.items()}


def checkpoint(folder: Path, *, with_decoder: bool = True, **more: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.ViTMAEConfig(**SMALL, **DECODER, image_size=32, patch_size=8, **more)
    made = (transformers.ViTMAEForPreTraining if with_decoder else transformers.ViTMAEModel)(config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    made.save_pretrained(folder)
    return (made.vit if with_decoder else made).eval()


@pytest.mark.parametrize("with_decoder", [True, False])
@torch.no_grad()
def test_its_features_are_those_of_the_encoder_with_nothing_hidden(with_decoder: bool, tmp_path: Path) -> None:
    theirs = checkpoint(tmp_path, with_decoder=with_decoder, layer_norm_eps=1e-5, qkv_bias=True)
    pictures = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    theirs.embeddings.config.mask_ratio = 0.0
    in_order = torch.arange(16.0).expand(3, -1)
    tokens = theirs(pictures, noise=in_order).last_hidden_state
    model = str(tmp_path)
    for component, expected in (
        (Transformers(model=model), tokens[:, 0]),
        (Transformers(model=model, pooling="mean_patch"), tokens[:, 1:].mean(dim=1)),
    ):
        ours: Any = component.build(BackboneContext()).eval()
        torch.testing.assert_close(ours(pictures), expected)
        assert torch.equal(ours(pictures), ours(pictures))


@torch.no_grad()
def test_it_is_rebuilt_as_a_vit_and_takes_other_sizes(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    made: Any = Transformers(model=str(tmp_path)).build(BackboneContext()).eval()
    document = json.loads(json.dumps(made.architecture))
    assert document["config"]["model_type"] == "vit"
    again: Any = Transformers(model="nowhere/at-all").build(BackboneContext(architecture=document)).eval()
    again.load_state_dict(made.state_dict(), strict=True)
    pictures = torch.randn(2, 3, 48, 40, generator=torch.Generator().manual_seed(1))
    assert torch.equal(made(pictures), again(pictures))


def test_a_decoder_alone_is_no_backbone(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    from safetensors.torch import load_file, save_file

    file = tmp_path / "model.safetensors"
    save_file({name: value for name, value in load_file(file).items() if "decoder" in name}, file, {"format": "pt"})
    with pytest.raises(RoadworkError, match=r"lacks 3[0-9] weights of ViTModel"):
        Transformers(model=str(tmp_path)).build(BackboneContext())
