"""Mixed labels reach every loss that takes them, and are refused at the check for one that does not."""

from __future__ import annotations

import pytest

from roadwork_core.errors import SpecError
from roadwork_core.plugins import Plugins
from roadwork_core.spec import load_spec

SPEC = """\
spec_version = 1
name = "mixing"
[data]
use = "image_folder"
root = "."
[[augment]]
use = "{mix}"
on = "batch"
[backbone]
use = "small_cnn"
[loss]
use = "{loss}"
"""
TAKE = ("asymmetric", "class_balanced", "cross_entropy", "focal", "ldam", "poly")


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_mixing_is_accepted_or_refused_by_what_the_loss_says(mix: str) -> None:
    plugins = Plugins.load()
    for loss in TAKE:
        assert load_spec(SPEC.format(mix=mix, loss=loss), plugins).warnings == ()
    with pytest.raises(SpecError) as refused:
        load_spec(SPEC.format(mix=mix, loss="soft_mcc"), plugins)
    assert [str(problem) for problem in refused.value.found] == [
        "<text>:6 augment.0: mixes labels, which this loss cannot take (use a loss with soft targets, or leave this"
        " augmentation out)"
    ]
