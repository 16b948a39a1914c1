"""The state of a training between two optimizer steps: what of it goes into a checkpoint, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import Factory, asdict, define, field
from torch import Tensor, nn

from roadwork_core.errors import RoadworkError

from .checkpoint import Checkpoint, from_json, read_checkpoint, read_state, to_json, write_checkpoint
from .ema import Ema
from .shards import fill, gathered, whole

CHECKPOINT = "checkpoint.safetensors"


@define(kw_only=True)
class Position:
    """How far a training is.

    `epoch` counts finished epochs, `window` finished optimizer steps of the epoch under way, `step` those of the whole
    training. `loss_sum` is the sum over the epoch's samples so far; `seconds` the time that the epoch took so far;
    `rates` the learning rates of its last step; `history` one line per finished epoch; `best` names the file that holds
    the best epoch's weights.
    """

    epoch: int = 0
    window: int = 0
    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    rates: dict[str, float] = Factory(dict)
    history: list[dict[str, Any]] = Factory(list)
    best: str | None = None


@define(kw_only=True)
class Snapshot:
    """The live objects that a checkpoint is taken of and restored into; `folder` keeps it.

    Files hold whole tensors. Where the model is divided among processes, all of them save and one of them writes.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    ema: Ema | None
    scaler: torch.amp.GradScaler | None
    folder: Path
    _frozen: str = field(init=False, default="")

    def __attrs_post_init__(self) -> None:
        self._frozen = frozen_digest(self.model)

    @property
    def path(self) -> Path:
        return self.folder / CHECKPOINT

    def save(self, position: Position, *, write: bool = True) -> None:
        """Writes the checkpoint, then forgets weights of epochs that are no longer the best."""
        tensors = {f"model.{name}": tensor for name, tensor in changing_tensors(self.model).items()}
        if self.ema:
            tensors |= {f"ema.{name}": tensor for name, tensor in self.ema.tensors().items()}
        state = {
            "position": asdict(position),
            "frozen": self._frozen,
            "optimizer": to_json(self.optimizer.state_dict(), tensors, "optimizer"),
            "scheduler": to_json(self.scheduler.state_dict(), tensors, "scheduler"),
            "scaler": to_json(self.scaler.state_dict(), tensors, "scaler") if self.scaler else None,
        }
        tensors = gathered(tensors, keep=write)
        if not write:
            return
        write_checkpoint(self.path, state, tensors)
        for path in self.folder.glob("best-*.safetensors"):
            if path.name != position.best:
                path.unlink()

    def restore(self) -> Position | None:
        """Puts the checkpoint's state into the live objects; None where there is no checkpoint.

        Raises RoadworkError where it is damaged or of another model.
        """
        found = read_checkpoint(self.path)
        if found is None:
            return None
        if found.state["frozen"] != self._frozen:
            raise RoadworkError(
                "the weights that do not train have changed since this checkpoint was written",
                path=self.path,
                hint="restore the backbone's weights, or delete the checkpoint to begin anew",
            )
        load_changing_tensors(self.model, found.part("model"), self.path)
        if self.ema:
            self.ema.load(found.part("ema"))
        self.optimizer.load_state_dict(_optimizer_state(found, self.optimizer))
        self.scheduler.load_state_dict(from_json(found.state["scheduler"], found.tensors))
        if self.scaler:
            self.scaler.load_state_dict(from_json(found.state["scaler"], found.tensors))
        return Position(**found.state["position"])

    def keep_best(self, epoch: int, *, write: bool) -> str:
        """The name of the file with the weights of `epoch`; where `write`, those that the model has now go into it."""
        name = f"best-{epoch}.safetensors"
        tensors = gathered(changing_tensors(self.model), keep=write)
        if write:
            write_checkpoint(self.folder / name, {"epoch": epoch}, tensors)
        return name

    def load_best(self, position: Position, into: nn.Module | None = None) -> None:
        """Gives the model the weights of the best epoch; or another one, built as this was and not trained.

        Raises RoadworkError where the weights are missing, or `into` does not have the weights that do not train.
        """
        if into is not None and frozen_digest(into) != self._frozen:
            raise RoadworkError("the weights that do not train are not those of the model that was trained")
        path = self.folder / str(position.best)
        best = read_checkpoint(path)
        if best is None:
            raise RoadworkError(
                "the weights of the best epoch are missing", path=path, hint=f"delete {self.path} to train anew"
            )
        load_changing_tensors(self.model if into is None else into, best.tensors, path)


def changing_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters that train and persistent buffers, by their name in the state dict; the rest never changes."""
    frozen = {name for name, parameter in model.named_parameters(remove_duplicate=False) if not parameter.requires_grad}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in frozen}


def load_changing_tensors(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copies them back in place. Raises RoadworkError where names or shapes are another model's."""
    own = changing_tensors(model)
    differing = own.keys() ^ tensors.keys()
    differing |= {name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape}
    if differing:
        raise RoadworkError(
            f"the weights are of another model (they differ in {min(differing)})",
            path=path,
            hint="delete the file to begin this stage anew",
        )
    with torch.no_grad():
        for name, tensor in own.items():
            fill(tensor, tensors[name])


def frozen_digest(model: nn.Module) -> str:
    """Says whether the weights that do not train are the same as before: a fast 64-bit check, no proof."""
    digest = 0
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            value = int(torch.hash_tensor(whole(parameter.detach())).item())
            digest = (digest * 1_000_003 + value + len(name)) % 2**64
    return f"{digest:016x}"


def _optimizer_state(found: Checkpoint, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    state = from_json(found.state["optimizer"], found.tensors)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, values in state["state"].items():
        like = parameters[index]
        for name, value in values.items():
            # Fused kernels walk a weight and its moments side by side in memory: same layout as the weight.
            if isinstance(value, Tensor) and value.shape == like.shape and value.ndim:
                values[name] = torch.empty_like(like, dtype=value.dtype)
                fill(values[name], value)
    return dict(state)


def history_of(folder: Path) -> list[dict[str, Any]] | None:
    """The finished epochs that the checkpoint in `folder` tells of, for who looks on from outside; None without one."""
    state = read_state(folder / CHECKPOINT)
    return None if state is None else list(state["position"]["history"])
