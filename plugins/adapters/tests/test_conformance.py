"""The adapters and objectives keep what their kinds promise."""

from __future__ import annotations

from typing import ClassVar

from roadwork_core.testing import AdapterContract, ObjectiveContract


class TestFull(AdapterContract):
    component = "adapters/full"


class TestFrozen(AdapterContract):
    component = "adapters/frozen"
    trains = False


class TestLastBlocks(AdapterContract):
    component = "adapters/last_blocks"
    variants = ({"n": 2, "train_norms": True},)


class TestLora(AdapterContract):
    component = "adapters/lora"
    options: ClassVar = {"rank": 4}
    variants = ({"alpha": 2.0, "targets": ["query", "mlp"]}, {"unfreeze_blocks": 1, "train_norms": True})


class TestDora(AdapterContract):
    component = "adapters/dora"
    options: ClassVar = {"rank": 4}
    variants = ({"alpha": 2.0, "targets": ["value"]}, {"unfreeze_blocks": 1, "train_norms": True, "dropout": 0.1})


class TestVicreg(ObjectiveContract):
    component = "adapters/vicreg"
    options: ClassVar = {"width": 32}


class TestSimsiam(ObjectiveContract):
    component = "adapters/simsiam"
    options: ClassVar = {"width": 32, "bottleneck": 8}


class TestDino(ObjectiveContract):
    component = "adapters/dino"
    options: ClassVar = {"prototypes": 16, "hidden": 32, "bottleneck": 8}
