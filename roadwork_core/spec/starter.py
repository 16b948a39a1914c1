"""The spec that `roadwork spec new` writes: everything a first run needs, each line explained."""

from __future__ import annotations

import re
import shlex

from ..errors import printable

_STARTER = """\
# One experiment, whole. Check it:  roadwork spec check {file}     Run it:  roadwork run {file}
# Every key and its default:  roadwork spec show {file}     Components:  roadwork plugins list
spec_version = 1
name = "{name}"                    # names the run directory and the bundle
seed = 0                           # everything random follows from it

[data]                             # pictures as root/<class>/*.jpg, one folder per class
use = "image_folder"
root = "${{spec_dir}}/images"        # ${{spec_dir}} is this file's folder, ${{env:NAME}} an environment variable; a
                                   # relative path would be relative to the folder in which roadwork is called
# positive = "roadwork"            # the class that scores are about; without it "roadwork", else the last class
# on_bad_image = "skip"            # an unreadable picture is left out and listed, instead of ending the run

[data.splits]                      # fractions, which must sum to 1
train = 0.6
val_select = 0.15                  # chooses the epoch
val_calib = 0.15                   # fits the policies
test = 0.1                         # is touched once, to report
# group_by = "sequence"            # pictures that share this tag never cross splits

[[augment]]                        # random changes to the training pictures, in this order
use = "random_resized_crop"
[[augment]]
use = "horizontal_flip"

[backbone]                         # from picture to features
use = "small_cnn"                  # learns from nothing and needs no network; a pretrained one does better on few
                                   # pictures and is downloaded once. Write these three lines instead, and lr = 3e-4:
# use = "torchvision"
# name = "resnet18"
# weights = "default"              # or the path of a .safetensors file; "none" to begin with random ones

[head]                             # from features to classes
use = "linear"

[loss]
use = "cross_entropy"              # or "focal", where one class is rare

[optimizer]
use = "adamw"
lr = 2e-3
# lr_scale = {{ backbone = 0.1 }}    # a pretrained backbone moves more slowly than its new head

[scheduler]
use = "cosine_warmup"

[train]
epochs = 20
batch_size = 32
# ema = 0.999                      # average the weights; the average is what is scored and bundled

[policy.threshold]                 # decides at the cut with the best MCC on val_calib
use = "threshold"

# A second policy, which may abstain and says how often it is right when it does not. With two, one must be active.
# [policy.scrc]
# use = "scrc"
# alpha = 0.1
# [bundle]
# active = "threshold"
"""


def starter(stem: str) -> str:
    """The text for a file called `<stem>.toml`."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:100] or "experiment"
    return _STARTER.format(name=name, file=shlex.quote(printable(f"{stem}.toml")))
