"""Another loss of the same name."""

from roadwork_core import component, hookimpl, option


@component("loss", "focal", renamed={"focus": "gamma"})
class RivalFocal:
    """A focal loss with other defaults."""

    gamma: float = option(default=5.0, minimum=0, help="focus")

    def build(self, ctx):
        import torch

        def loss(logits, target):
            log_p = torch.log_softmax(logits, dim=-1).gather(1, target[:, None])[:, 0]
            return -((1 - log_p.exp()).clamp_min(1e-12) ** self.gamma) * log_p

        return loss


@hookimpl
def roadwork_components():
    return [RivalFocal]
