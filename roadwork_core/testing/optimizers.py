"""What an optimizer promises."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..kinds import Kind, OptimizerContext, ParamGroup
from .contract import ComponentContract, refuse, seeded
from .results import difference

if TYPE_CHECKING:
    import torch
    from torch import nn


class OptimizerContract(ComponentContract):
    """An optimizer trains every group at its learning rate, and goes on from its state as if never stopped."""

    kind = Kind.OPTIMIZER

    def build(self, component: Any, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer over two groups of decaying weights (one at a tenth) and one of vectors."""
        from ..training.groups import decay_and_rest

        weights, vectors = decay_and_rest(model.named_parameters())
        groups = [
            ParamGroup(name="first", params=weights[:1], lr_scale=0.1),
            ParamGroup(name="rest", params=weights[1:]),
            ParamGroup(name="vectors", params=vectors, decay=False),
        ]
        optimizer: torch.optim.Optimizer = component.build(OptimizerContext(groups=groups))
        return optimizer

    def exercise(self, component: Any) -> Any:
        model = self._model()
        losses = self._train(model, self.build(component, model), 4)
        return {"losses": losses, "state": dict(model.state_dict())}

    def test_trains_every_parameter_and_lowers_the_loss(self) -> None:
        import torch

        for component in self.cases():
            model = self._model()
            before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            losses = seeded(self._train)(model, self.build(component, model), 25)
            if still := [name for name, tensor in model.state_dict().items() if torch.equal(tensor, before[name])]:
                refuse(f"25 steps leave {', '.join(still)} as it was")
            if not losses[-1] < losses[0]:
                refuse(f"25 steps take the loss of a simple regression from {losses[0]:.4g} to {losses[-1]:.4g}")

    def test_keeps_the_groups(self) -> None:
        for component in self.cases():
            optimizer = self.build(component, self._model())
            groups = {group.get("name"): group for group in optimizer.param_groups}
            if missing := {"first", "rest", "vectors"} - set(groups):
                refuse(f"the parameter groups {', '.join(sorted(missing))} are lost; use ctx.param_groups")
            if abs(groups["first"]["lr"] - 0.1 * groups["rest"]["lr"]) > 1e-12:
                refuse("a group's lr_scale does not scale its learning rate")
            if groups["vectors"].get("weight_decay", 0.0) != 0.0:
                refuse("weight decay reaches a group with decay = False")

    def test_goes_on_from_its_state(self) -> None:
        for component in self.cases():
            model = self._model()
            optimizer = self.build(component, model)
            seeded(self._train)(model, optimizer, 3)
            weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
            if odd := _not_plain(state):
                refuse(f"its state holds {odd}, which cannot be stored without pickle")
            expected = seeded(self._train)(model, optimizer, 3)
            other = self._model()
            other.load_state_dict(weights)
            resumed = self.build(component, other)
            resumed.load_state_dict(state)
            found = difference(expected, seeded(self._train)(other, resumed, 3)) or difference(
                dict(model.state_dict()), dict(other.state_dict()), "weights"
            )
            if found:
                refuse(f"resumed from its state it trains otherwise: {found}")

    def _model(self) -> nn.Module:
        import torch
        from torch import nn

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 1))

    @staticmethod
    def _train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
        import torch

        inputs = torch.randn((32, 6), generator=torch.Generator().manual_seed(1))
        target = inputs.sum(dim=1, keepdim=True)
        losses = []
        for _ in range(steps):
            optimizer.zero_grad()
            loss = (model(inputs) - target).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        return losses


def _not_plain(value: Any) -> str | None:
    if value is None or isinstance(value, bool | int | float | str) or hasattr(value, "detach"):
        return None
    if isinstance(value, Mapping):
        return next((odd for item in value.values() if (odd := _not_plain(item))), None)
    if isinstance(value, list | tuple):
        return next((odd for item in value if (odd := _not_plain(item))), None)
    return f"a {type(value).__name__}"
