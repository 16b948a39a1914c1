"""What makes specs/elite.toml small enough for a test: a random DINOv2 of two blocks, and a few settings."""

from __future__ import annotations

from pathlib import Path

from .forking import ROOT

SPEC = ROOT / "specs" / "elite.toml"
WIDTH, MLP, RANK, BLOCKS = 32, 64, 32, 2
#: Everything else is as it is written in the spec.
SMALL = (
    *("backbone.image_size=32", "augment.0.size=32", "data.group_folders=true"),
    *("adapt.objective.hidden=64", "adapt.objective.prototypes=64", "adapt.epochs=1", "adapt.batch_size=16"),
    *("train.epochs=2", "train.batch_size=8"),
    "data.splits={train=0.4, val_select=0.15, val_calib=0.3, test=0.15}",
)


def dinov2(folder: Path, *, seed: int = 0) -> Path:
    """A DINOv2 of two blocks with random weights, saved as the hub has them."""
    import torch
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    torch.manual_seed(seed)
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": BLOCKS, "num_attention_heads": 2, "mlp_ratio": MLP // WIDTH}
    Dinov2Model(Dinov2Config(**sizes, image_size=32, patch_size=8)).save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    BitImageProcessor(**size).save_pretrained(folder)
    return folder
