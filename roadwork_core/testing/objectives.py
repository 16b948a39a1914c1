"""What a self-supervised objective promises."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from ..kinds import Kind, ObjectiveContext
from .contract import ComponentContract, refuse, seeded
from .results import difference

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class ObjectiveContract(ComponentContract):
    """An objective gives a finite loss with a gradient, features to watch, and goes on from its state dict."""

    kind = Kind.OBJECTIVE
    batch_size = 8

    def build(self, component: Any) -> tuple[nn.Module, Any]:
        """A small backbone and the objective on it."""
        from . import stand_ins

        backbone = stand_ins.backbone()
        context = ObjectiveContext(
            backbone=backbone,
            feature_dim=backbone.feature_dim,
            image_size=backbone.preprocessing.size,
            total_steps=20,
        )
        return backbone, component.build(context)

    def exercise(self, component: Any) -> Any:
        backbone, objective = self.build(component)
        losses = self._train(backbone, objective, range(3))
        return {"losses": losses, "backbone": dict(backbone.state_dict()), "own": dict(objective.state_dict())}

    def test_gives_a_finite_loss_and_features(self) -> None:
        import torch

        for component in self.cases():
            for half in (False, True):
                backbone, objective = seeded(self.build)(component)
                if not isinstance(objective.views, int) or objective.views < 1:
                    refuse(f"views is {objective.views!r}, not a number of views")
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
                    loss, features = objective(self._views(objective, 0))
                name = "bf16" if half else "fp32"
                if loss.ndim != 0 or not torch.isfinite(loss):
                    refuse(f"the loss is no finite scalar in {name}")
                if features.ndim != 2 or features.shape[1] != backbone.feature_dim or len(features) < 2:
                    refuse(f"the features to watch have the shape {tuple(features.shape)}, not (N, feature_dim)")
                if features.requires_grad:
                    refuse("the features to watch carry a gradient; detach them")
                loss.backward()
                gradients = [p.grad for p in backbone.parameters() if p.grad is not None]
                if not any(gradient.abs().sum() > 0 for gradient in gradients):
                    refuse("no gradient reaches the backbone")
                if not all(torch.isfinite(gradient).all() for gradient in gradients):
                    refuse(f"the backbone's gradient is not finite in {name}")

    def test_trains(self) -> None:
        for component in self.cases():
            backbone, objective = seeded(self.build)(component)
            losses = seeded(self._train)(backbone, objective, range(6))
            if any(loss != loss or abs(loss) == float("inf") for loss in losses):
                refuse(f"within six steps the loss is not finite: {losses}")

    def test_goes_on_from_its_state(self) -> None:
        for component in self.cases():
            backbone, objective = seeded(self.build)(component)
            seeded(self._train)(backbone, objective, range(3))
            weights, own = copy.deepcopy(backbone.state_dict()), copy.deepcopy(objective.state_dict())
            expected = seeded(self._train)(backbone, objective, range(3, 6))
            other, resumed = seeded(self.build)(component)
            other.load_state_dict(weights)
            resumed.load_state_dict(own)
            if found := difference(expected, seeded(self._train)(other, resumed, range(3, 6)), "loss"):
                refuse(f"resumed from its state dict it goes on otherwise: {found}")

    def _views(self, objective: Any, step: int) -> list[Tensor]:
        from . import stand_ins

        return [stand_ins.inputs(self.batch_size, seed=100 * step + view) for view in range(objective.views)]

    def _train(self, backbone: nn.Module, objective: Any, steps: range) -> list[float]:
        import torch

        parameters = {id(p): p for module in (backbone, objective) for p in module.parameters() if p.requires_grad}
        optimizer: torch.optim.Optimizer = torch.optim.SGD(list(parameters.values()), lr=0.01)
        losses = []
        for step in steps:
            optimizer.zero_grad()
            loss, _ = objective.train()(self._views(objective, step))
            loss.backward()
            optimizer.step()
            objective.after_step(step)
            losses.append(float(loss.detach()))
        return losses
