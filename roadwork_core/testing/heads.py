"""What a head promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..kinds import HeadContext, Kind
from .contract import ComponentContract, refuse, seeded

if TYPE_CHECKING:
    from torch import Tensor, nn


class HeadContract(ComponentContract):
    """A head maps features, float (N, feature_dim), to logits, float (N, num_classes)."""

    kind = Kind.HEAD
    class_counts: tuple[int, ...] = (60, 30, 10)
    feature_dim = 16

    def build(self, component: Any, *, rebuild: bool = False) -> nn.Module:
        """The head for `class_counts`, or as a bundle makes it again, without them."""
        import numpy as np

        counts = None if rebuild else np.array(self.class_counts, dtype=np.int64)
        context = HeadContext(feature_dim=self.feature_dim, num_classes=len(self.class_counts), class_counts=counts)
        head: nn.Module = component.build(context)
        return head

    def exercise(self, component: Any) -> Any:
        head = self.build(component)
        logits = head(self._features())
        logits.square().sum().backward()
        return {"logits": logits, "state": dict(head.state_dict())}

    def test_gives_one_logit_per_class(self) -> None:
        import torch

        for component in self.cases():
            head = seeded(self.build)(component).eval()
            for count in (1, 5):
                logits = head(self._features(count))
                if logits.shape != (count, len(self.class_counts)):
                    refuse(f"{count} features make logits of the shape {tuple(logits.shape)}")
            whole, alone = head(self._features(5)), head(self._features(5)[:1])
            if not torch.allclose(whole[:1], alone, atol=1e-5):
                refuse("in evaluation a sample's logits depend on the rest of its batch")

    def test_is_finite_in_fp32_and_bf16(self) -> None:
        import torch

        for component in self.cases():
            for half in (False, True):
                head, features = seeded(self.build)(component).train(), self._features().requires_grad_()
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
                    logits = head(features)
                (logits.float() - 1.0).square().mean().backward()
                gradients = {name: p.grad for name, p in head.named_parameters() if p.requires_grad}
                if missing := [name for name, gradient in gradients.items() if gradient is None]:
                    refuse(f"no gradient reaches {', '.join(missing)}")
                finite = [logits, *(gradient for gradient in gradients.values() if gradient is not None)]
                if not all(torch.isfinite(tensor).all() for tensor in finite):
                    refuse(f"logits or gradients are not finite in {'bf16' if half else 'fp32'}")

    def test_is_rebuilt_from_its_weights(self) -> None:
        import torch

        for component in self.cases():
            head = seeded(self.build)(component).eval()
            again = self.build(component, rebuild=True).eval()
            try:
                again.load_state_dict(head.state_dict(), strict=True)
            except RuntimeError as error:
                refuse(f"the weights do not fit a head rebuilt without class_counts: {error}")
            if not torch.equal(head(self._features()), again(self._features())):
                refuse("rebuilt with the same weights it answers otherwise: something is not in the state dict")

    def _features(self, count: int = 6) -> Tensor:
        import torch

        return torch.randn((count, self.feature_dim), generator=torch.Generator().manual_seed(4))
