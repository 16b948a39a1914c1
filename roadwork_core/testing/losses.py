"""What a loss promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..kinds import Kind, LossContext
from .contract import ComponentContract, refuse, seeded

if TYPE_CHECKING:
    from torch import Tensor


class LossContract(ComponentContract):
    """A loss makes a mean or per-sample losses of float32 logits (N, C) and int64 targets (N,)."""

    kind = Kind.LOSS
    #: Number of classes it is tried with, and their counts in the train split.
    class_counts: tuple[int, ...] = (90, 30)

    def build(self, component: Any) -> Any:
        """The loss for `class_counts`."""
        import numpy as np

        counts = np.array(self.class_counts, dtype=np.int64)
        return component.build(LossContext(num_classes=len(counts), class_counts=counts))

    def exercise(self, component: Any) -> Any:
        logits, target = self._batch()
        loss = self.build(component)(logits, target)
        loss.sum().backward()
        return {"loss": loss, "gradient": logits.grad}

    def test_reduces(self) -> None:
        """To a mean, or to one value per sample."""
        import torch

        for component in self.cases():
            loss, (logits, target) = seeded(self.build)(component), self._batch()
            value = loss(logits, target)
            if value.shape not in ((), (len(target),)):
                refuse(f"the loss of {len(target)} samples has the shape {tuple(value.shape)}, not () or (N,)")
            if not value.is_floating_point():
                refuse(f"the loss is {value.dtype}")
            twice = loss(torch.cat([logits, logits]), torch.cat([target, target]))
            expected = value if value.ndim == 0 else torch.cat([value, value])
            if not torch.allclose(twice, expected, rtol=1e-4, atol=1e-6):
                refuse("the same samples twice have another loss: a scalar must be a mean, not a sum")
            order = torch.arange(len(target) - 1, -1, -1)
            turned = loss(logits[order], target[order])
            if not torch.allclose(turned, value if value.ndim == 0 else value[order], rtol=1e-4, atol=1e-6):
                refuse("the losses do not follow their samples when the batch is turned round")

    def test_prefers_the_right_answer(self) -> None:
        import torch

        for component in self.cases():
            loss = seeded(self.build)(component)
            target = torch.arange(len(self.class_counts))
            right = 4.0 * torch.nn.functional.one_hot(target).float()
            if not loss(right, target).mean() < loss(-right, target).mean():
                refuse("a confident right answer costs no less than a confident wrong one")

    def test_is_finite_in_fp32(self) -> None:
        import torch

        for component in self.cases():
            for scale in (1.0, 30.0, 300.0):
                logits, target = self._batch(scale)
                self._finite(seeded(self.build)(component), logits, target, f"logits of about {scale:g}")
                sure = scale * torch.nn.functional.one_hot(target, len(self.class_counts)).float()
                for name, certain in (("right", sure), ("wrong", -sure)):
                    certain.requires_grad_()
                    self._finite(seeded(self.build)(component), certain, target, f"{name} by a margin of {scale:g}")

    def test_is_finite_in_bf16(self) -> None:
        import torch

        for component in self.cases():
            logits, target = self._batch()
            weight = torch.eye(logits.shape[1], requires_grad=True)
            loss = seeded(self.build)(component)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                value = loss((logits @ weight).float(), target)
            value.float().mean().backward()
            if not (torch.isfinite(value).all() and torch.isfinite(weight.grad).all()):  # type: ignore[arg-type]
                refuse("under bf16 autocast the loss or its gradient is not finite")

    def test_takes_soft_targets_if_it_says_so(self) -> None:
        import torch

        if not getattr(self.cls, "soft_targets", False):
            return
        for component in self.cases():
            loss, (logits, target) = seeded(self.build)(component), self._batch()
            hard, soft = loss(logits, target), loss(logits, torch.nn.functional.one_hot(target).float())
            if not torch.allclose(hard, soft, rtol=1e-4, atol=1e-6):
                refuse("one-hot class probabilities cost something else than their class index")
            mixed = torch.full((len(target), len(self.class_counts)), 1.0 / len(self.class_counts))
            if (value := loss(logits, mixed)).shape != hard.shape or not torch.isfinite(value).all():
                refuse("the loss of soft targets is not finite, or has another shape")

    def test_leaves_its_arguments_alone(self) -> None:
        import torch

        for component in self.cases():
            logits, target = self._batch()
            before = logits.detach().clone(), target.clone()
            seeded(self.build)(component)(logits, target)
            if not (torch.equal(before[0], logits.detach()) and torch.equal(before[1], target)):
                refuse("the loss writes into its arguments")

    def _batch(self, scale: float = 2.0) -> tuple[Tensor, Tensor]:
        import torch

        generator = torch.Generator().manual_seed(5)
        classes = len(self.class_counts)
        logits = scale * torch.randn((6 * classes, classes), generator=generator)
        return logits.requires_grad_(), torch.arange(6 * classes) % classes

    @staticmethod
    def _finite(loss: Any, logits: Tensor, target: Tensor, when: str) -> None:
        import torch

        value = loss(logits, target)
        if not torch.isfinite(value).all():
            refuse(f"the loss is not finite for {when}")
        value.mean().backward()
        if logits.grad is None or not torch.isfinite(logits.grad).all():
            refuse(f"the gradient is missing or not finite for {when}")
