"""A loss in a package of its own."""

from roadwork_core import component, hookimpl


@component("loss", "focal")  # attrs, frozen, keyword-only
class Focal:
    """Focal loss (Lin et al., 2017)."""

    gamma: float = 2.0
    alpha: float | None = None

    def build(self, ctx):
        from .focal import FocalLoss  # torch is imported only here

        return FocalLoss(self.gamma, self.alpha)


@hookimpl
def roadwork_components():
    return [Focal]
