"""The loss keeps what its kind promises, by the kit that the in-tree losses are held to."""

from roadwork_core.testing import LossContract


class TestFocal(LossContract):
    component = "acme/focal"
    variants = ({"alpha": 0.25},)
