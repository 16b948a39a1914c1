"""What an adapter promises."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from ..kinds import AdapterContext, Kind
from .contract import ComponentContract, refuse, seeded

if TYPE_CHECKING:
    from torch import Tensor, nn


class AdapterContract(ComponentContract):
    """An adapted backbone answers like its base, trains, and merges into a plain backbone that answers like it.

    Override `backbone` to try it on another model than the small transformer of the kit.
    """

    kind = Kind.ADAPTER
    #: Whether anything of the backbone is left to train.
    trains = True

    def backbone(self) -> nn.Module:
        """The backbone that is adapted, a new one with the same weights at every call."""
        from . import stand_ins

        return stand_ins.backbone()

    def build(self, component: Any) -> Any:
        """The adapted backbone."""
        return component.build(AdapterContext(backbone=self.backbone(), seed=7))

    def exercise(self, component: Any) -> Any:
        adapted = self.build(component)
        loss = self._step(adapted.module)
        return {"loss": loss, "targets": list(adapted.targets), "merged": dict(adapted.merge().state_dict())}

    def test_answers_like_its_base(self) -> None:
        import torch

        for component in self.cases():
            base, images = self.backbone().eval(), self._images()
            adapted = seeded(self.build)(component)
            gap = (base(images) - adapted.module.eval()(images)).abs().max()
            if not torch.isfinite(gap) or gap > 1e-5:
                refuse(f"before any training its features differ from the backbone's by {gap:.2g}")

    def test_trains_what_it_says(self) -> None:
        import torch

        for component in self.cases():
            adapted = seeded(self.build)(component)
            trainable = {n: p for n, p in adapted.module.named_parameters() if p.requires_grad}
            if not self.trains:
                if trainable:
                    refuse(f"it leaves {len(trainable)} parameters to train")
                continue
            if not trainable:
                refuse("it leaves nothing to train (trains = False if that is its purpose)")
            if not list(adapted.targets):
                refuse("it does not name its targets")
            frozen = {n: p.clone() for n, p in adapted.module.named_parameters() if not p.requires_grad}
            before = {n: p.detach().clone() for n, p in trainable.items()}
            seeded(self._step)(adapted.module, steps=3)
            if all(torch.equal(before[n], p.detach()) for n, p in trainable.items()):
                refuse("three steps change none of the parameters that train")
            after = dict(adapted.module.named_parameters())
            if moved := [n for n, p in frozen.items() if not torch.equal(p, after[n])]:
                refuse(f"frozen parameters moved: {', '.join(moved[:5])}")

    def test_trains_in_bf16(self) -> None:
        import torch

        for component in self.cases():
            adapted = seeded(self.build)(component)
            if not any(p.requires_grad for p in adapted.module.parameters()):
                continue
            with torch.autocast("cpu", dtype=torch.bfloat16):
                features = adapted.module.train()(self._images())
            features.float().square().mean().backward()
            gradients = [p.grad for p in adapted.module.parameters() if p.grad is not None]
            if not gradients or not all(torch.isfinite(gradient).all() for gradient in gradients):
                refuse("under bf16 autocast its gradients are missing or not finite")

    def test_merges_to_a_plain_backbone(self) -> None:
        import torch

        for component in self.cases():
            base, images = self.backbone(), self._images()
            adapted = seeded(self.build)(component)
            if any(p.requires_grad for p in adapted.module.parameters()):
                seeded(self._step)(adapted.module, steps=3)
            with torch.no_grad():
                trained = copy.deepcopy(adapted.module).eval()(images)
                merged = adapted.merge().eval()
                gap = (trained - merged(images)).abs().max()
            if gap > 1e-5:
                refuse(f"merged, its features differ by {gap:.2g}")
            if list(merged.state_dict()) != list(base.state_dict()):
                odd = sorted(set(merged.state_dict()) ^ set(base.state_dict()))
                refuse(f"merged it has other state-dict keys: {odd[:5]}")
            for name in ("feature_dim", "preprocessing", "architecture"):
                if getattr(merged, name, None) != getattr(base, name):
                    refuse(f"merged it lost the backbone's {name}")
            if len(merged.blocks()) != len(base.blocks()):  # type: ignore[operator]
                refuse("merged it has other blocks()")

    @staticmethod
    def _images() -> Tensor:
        from . import stand_ins

        return stand_ins.inputs(4)

    def _step(self, module: nn.Module, steps: int = 1) -> list[float]:
        import torch

        trainable = [p for p in module.parameters() if p.requires_grad]
        losses = []
        for _ in range(steps):
            features = module.train()(self._images())
            loss = (features - 1.0).square().mean()
            losses.append(float(loss.detach()))
            if trainable:
                loss.backward()
                torch.optim.SGD(trainable, lr=0.2).step()
        return losses
