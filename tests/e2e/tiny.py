"""Specs that run whole in seconds: rendered scenes, a small network, and on request every table of a spec."""

from __future__ import annotations

from pathlib import Path

CORE = """\
spec_version = 1
name = "tiny"
seed = 3

[data]
{data}

[data.splits]
train = 0.4
val_select = 0.15
val_calib = 0.3
test = 0.15

[backbone]
use = "small_cnn"
image_size = 32

[optimizer]
use = "adamw"
lr = 0.003

[train]
epochs = {epochs}
batch_size = 16
"""

RENDERED = """\
use = "synthetic_roadwork"
n = {n}
width = 64
height = 48
positive_fraction = 0.5
frames_per_sequence = 2"""

EVERYTHING = """\
clip_norm = 1.0
ema = 0.9
accumulate = 2
patience = 3

[[augment]]
use = "random_resized_crop"
[[augment]]
use = "horizontal_flip"
[[augment]]
use = "mixup"
on = "batch"

[adapt]
objective = { use = "dino" }
adapter = { use = "full" }
optimizer = { use = "adamw", lr = 0.001 }
epochs = 1
batch_size = 16
min_rank_ratio = 0.001

[adapter]
use = "full"
[head]
use = "linear"
[loss]
use = "focal"
[scheduler]
use = "cosine_warmup"
[tta]
use = "multiview"

[policy.threshold]
use = "threshold"
[policy.scrc]
use = "scrc"
alpha = 0.2
[policy.hybrid]
use = "hybrid"
fast = "threshold"
robust = "scrc"

[bundle]
active = "hybrid"
fallback = "threshold"

[[tracker]]
use = "jsonl"
"""


def tiny_spec(
    folder: Path,
    *,
    everything: bool = False,
    n: int = 160,
    epochs: int = 2,
    extra: str = "",
    pictures: Path | None = None,
) -> Path:
    """Writes a spec named `tiny` into `folder` and returns its path.

    Its data are `n` rendered scenes, which belong to a runs directory, or the folder `pictures`, wherever the runs are.
    """
    path = folder / "tiny.toml"
    found = f'use = "image_folder"\nroot = "{pictures}"\ngroup_folders = true'
    data = RENDERED.format(n=n) if pictures is None else found
    path.write_text(CORE.format(data=data, epochs=epochs) + (EVERYTHING if everything else "") + extra)
    return path
