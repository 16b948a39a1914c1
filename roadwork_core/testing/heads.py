"""What a head promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ..kinds import HeadContext, Kind, TokenHead
from .contract import ComponentContract, refuse, seeded

if TYPE_CHECKING:
    from torch import Tensor, nn


class HeadContract(ComponentContract):
    """A head maps features, float (N, feature_dim), to logits, float (N, num_classes).

    One with `reads_tokens` makes the features itself, of tokens, float (N, T, token_dim).
    """

    kind = Kind.HEAD
    class_counts: tuple[int, ...] = (60, 30, 10)
    feature_dim = 16
    token_dim = 16

    def build(self, component: Any, *, rebuild: bool = False) -> nn.Module:
        """The head for `class_counts`, or as a bundle makes it again, without them."""
        import numpy as np

        counts = None if rebuild else np.array(self.class_counts, dtype=np.int64)
        context = HeadContext(
            feature_dim=self.feature_dim,
            num_classes=len(self.class_counts),
            class_counts=counts,
            token_dim=self.token_dim if reads_tokens(component) else None,
        )
        head: nn.Module = component.build(context)
        return head

    def exercise(self, component: Any) -> Any:
        head = self.build(component)
        logits = _logits(head, self._inputs(head))
        logits.square().sum().backward()
        return {"logits": logits, "state": dict(head.state_dict())}

    def test_gives_one_logit_per_class(self) -> None:
        import torch

        for component in self.cases():
            head = seeded(self.build)(component).eval()
            for count in (1, 5):
                logits = _logits(head, self._inputs(head, count))
                if logits.shape != (count, len(self.class_counts)):
                    refuse(f"{count} features make logits of the shape {tuple(logits.shape)}")
            whole, alone = _logits(head, self._inputs(head, 5)), _logits(head, self._inputs(head, 5)[:1])
            if not torch.allclose(whole[:1], alone, atol=1e-5):
                refuse("in evaluation a sample's logits depend on the rest of its batch")

    def test_is_finite_in_fp32_and_bf16(self) -> None:
        import torch

        for component in self.cases():
            for half in (False, True):
                head = seeded(self.build)(component).train()
                inputs = self._inputs(head).requires_grad_()
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
                    logits = _logits(head, inputs)
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
            if not torch.equal(_logits(head, self._inputs(head)), _logits(again, self._inputs(again))):
                refuse("rebuilt with the same weights it answers otherwise: something is not in the state dict")

    def test_pools_tokens_if_it_says_so(self) -> None:
        import torch

        for component in self.cases():
            head, says = seeded(self.build)(component).eval(), reads_tokens(component)
            if says != reads_tokens(head) or (says and not callable(getattr(head, "pool", None))):
                refuse(f"reads_tokens is {says}, and its module {'has no' if says else 'has'} reads_tokens with pool()")
            for count in (1, 9) if says else ():
                tokens = self._inputs(head, 5)[:, :count]
                pooled = cast(TokenHead, head).pool(tokens)
                if pooled.ndim != 2 or len(pooled) != len(tokens):
                    refuse(f"5 pictures of {count} tokens are pooled to the shape {tuple(pooled.shape)}, not (5, D)")
                if not torch.isfinite(pooled).all():
                    refuse("what it pools is not finite")

    def _inputs(self, head: nn.Module, count: int = 6) -> Tensor:
        """What the head reads: features, or tokens of nine places."""
        import torch

        shape = (count, 9, self.token_dim) if reads_tokens(head) else (count, self.feature_dim)
        return torch.randn(shape, generator=torch.Generator().manual_seed(4))


def reads_tokens(head: Any) -> bool:
    return bool(getattr(head, "reads_tokens", False))


def _logits(head: Any, inputs: Tensor) -> Any:
    return head(head.pool(inputs) if reads_tokens(head) else inputs)
