"""Self-distillation with no labels (Caron et al., 2021, arXiv 2104.14294), with KoLeo (arXiv 2304.07193)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from roadwork_core.kinds import ObjectiveContext

from .projection import PrototypeHead

if TYPE_CHECKING:
    from .objectives import Dino


class DinoObjective(nn.Module):
    """Each view's prototypes by the student follow those of the other view by the teacher.

    The teacher averages the student's trainable weights and statistics only; what is frozen they share.
    """

    views = 2
    step: Tensor
    center: Tensor

    def __init__(self, ctx: ObjectiveContext, options: Dino) -> None:
        super().__init__()
        self._backbone = (ctx.backbone,)  # in a tuple, so that it is no part of this module
        self.options = options
        self.total_steps = ctx.total_steps
        self.head = PrototypeHead(ctx.feature_dim, options.hidden, options.bottleneck, options.prototypes)
        self.teacher = Averaged(ctx.backbone)
        self.teacher_head = Averaged(self.head)
        self.register_buffer("center", torch.zeros(options.prototypes))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("_seen", torch.zeros(options.prototypes), persistent=False)

    def forward(self, views: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        options, step = self.options, int(self.step)
        both = torch.cat([views[0], views[1]])
        with torch.no_grad():
            teacher = self.teacher_head(self.head, self.teacher(self._backbone[0], both))
            # Taken in by `after_step`: this step is centred by the steps before it.
            self._seen = teacher.mean(dim=0)
        features = self._backbone[0](both)
        share = self._gradient_share(step)
        tempered = features * share + features.detach() * (1.0 - share)
        student = self.head(tempered, hold_prototypes=step < round(options.freeze_last_ratio * self.total_steps))
        with torch.autocast(student.device.type, enabled=False):
            targets = teacher_probabilities(teacher, self.center, self._teacher_temperature(step))
            loss = dino_loss(student, targets, options.student_temperature)
            if options.koleo > 0:
                spread = sum(koleo_loss(half.float()) for half in tempered.chunk(2))
                loss = loss + options.koleo * spread / 2
        return loss, features[: len(views[0])].detach().float()

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Moves centre and teacher. `step` counts optimizer steps from 0."""
        self.center.lerp_(self._seen, 1.0 - self.options.center_momentum)
        momentum = teacher_momentum(self.options.momentum, step, self.total_steps)
        self.teacher.follow(self._backbone[0], momentum)
        self.teacher_head.follow(self.head, momentum)
        self.step.fill_(step + 1)

    def _teacher_temperature(self, step: int) -> float:
        options = self.options
        warmup = round(options.temperature_warmup_ratio * self.total_steps)
        part = 1.0 if step >= warmup else step / warmup
        return options.teacher_temperature + part * (options.teacher_temperature_end - options.teacher_temperature)

    def _gradient_share(self, step: int) -> float:
        warmup = round(self.options.head_warmup_ratio * self.total_steps)
        return min(1.0, (step + 1) / (warmup + 1))


class Averaged(nn.Module):
    """Averages of a network's trainable weights and of its buffers, with which the same network can be run."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        # A module's buffers may have no dot in their name, and a parameter's name no slash.
        for name, tensor in _moving(network):
            self.register_buffer(name.replace(".", "/"), tensor.detach().clone())

    def forward(self, network: nn.Module, inputs: Tensor) -> Tensor:
        """The answer of `network`, in evaluation mode, with the averages in place of its own weights."""
        weights = {name.replace("/", "."): tensor for name, tensor in self.named_buffers()}
        with _evaluating(network):
            answer: Tensor = torch.func.functional_call(network, weights, (inputs,))
        return answer

    @torch.no_grad()
    def follow(self, network: nn.Module, momentum: float) -> None:
        """own = momentum * own + (1 - momentum) * live; counters are copied."""
        for (_, live), own in zip(_moving(network), self.buffers(), strict=True):
            if own.is_floating_point():
                own.lerp_(live, 1.0 - momentum)
            else:
                own.copy_(live)


def teacher_probabilities(logits: Tensor, center: Tensor, temperature: float) -> Tensor:
    """softmax((logits - center) / temperature), float32 (2 N, K): centred against one prototype for all, sharpened
    against all prototypes for each."""
    return torch.softmax((logits.float() - center) / temperature, dim=1)


def dino_loss(student: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy of each view's student against the other view's teacher.

    `student` logits and `targets` probabilities, float32 (2 N, K), the first view's N rows first.
    """
    log_p = torch.log_softmax(student.float() / temperature, dim=1)
    first, second = targets.chunk(2)
    return -(torch.cat([second, first]) * log_p).sum(dim=1).mean()


def koleo_loss(features: Tensor) -> Tensor:
    """Minus the mean log distance to the nearest neighbour, of features float32 (N, D) scaled to unit length."""
    unit = nn.functional.normalize(features, dim=1)
    with torch.no_grad():
        similarity = unit @ unit.T
        nearest = similarity.fill_diagonal_(-2.0).argmax(dim=1)
    return -torch.log(nn.functional.pairwise_distance(unit, unit[nearest], eps=1e-8) + 1e-8).mean()


def teacher_momentum(start: float, step: int, total_steps: int) -> float:
    """From `start` to 1 along half a cosine."""
    part = min(1.0, step / max(1, total_steps))
    return 1.0 - (1.0 - start) * (1.0 + math.cos(math.pi * part)) / 2.0


def _moving(network: nn.Module) -> list[tuple[str, Tensor]]:
    trained: list[tuple[str, Tensor]] = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
    return trained + list(network.named_buffers())


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    training = [module for module in network.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
