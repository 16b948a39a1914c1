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


class TestDoraTau(AdapterContract):
    component = "adapters/dora_tau"
    options: ClassVar = {"rank": 4}
    variants = (
        {"alpha": 2.0, "targets": ["value"], "tau": 1.0},
        {"unfreeze_blocks": 1, "train_norms": True, "dropout": 0.1},
    )


class TestDoran(AdapterContract):
    component = "adapters/doran"
    options: ClassVar = {"rank": 4}
    variants = (
        {"alpha": 2.0, "targets": ["query_value"], "tau": 1.0, "hidden": 6},
        {"unfreeze_blocks": 1, "train_norms": True, "dropout": 0.1},
    )


class TestBitFit(AdapterContract):
    component = "adapters/bitfit"
    variants = ({"train_norms": True},)


class TestIa3(AdapterContract):
    component = "adapters/ia3"
    variants = ({"train_norms": True},)


class TestVicreg(ObjectiveContract):
    component = "adapters/vicreg"
    options: ClassVar = {"width": 32}


class TestSimsiam(ObjectiveContract):
    component = "adapters/simsiam"
    options: ClassVar = {"width": 32, "bottleneck": 8}


class TestDino(ObjectiveContract):
    component = "adapters/dino"
    options: ClassVar = {"prototypes": 16, "hidden": 32, "bottleneck": 8}


class TestMae(ObjectiveContract):
    component = "adapters/mae"
    options: ClassVar = {"width": 16, "layers": 1, "head_width": 8}
    variants = ({"mask_ratio": 0.5, "normalise_patches": False},)
