"""The objectives against numpy renderings of their papers; the default does not collapse, the bad variant does."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from roadwork_adapters import Dino, Vicreg
from roadwork_adapters.dino import dino_loss, koleo_loss, teacher_momentum, teacher_probabilities
from roadwork_adapters.simsiam import simsiam_loss
from roadwork_adapters.vicreg import vicreg_terms
from torch import Tensor, nn

from roadwork_core.kinds import ObjectiveContext
from roadwork_core.testing import stand_ins

Floats = NDArray[np.float64]


def pair(n: int = 12, width: int = 7) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(0)
    return rng.normal(0, 0.7, (n, width)), rng.normal(0, 0.7, (n, width))


def tensors(*arrays: Floats) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(each).float() for each in arrays)


def softmax(values: Floats) -> Floats:
    powers: Floats = np.exp(values - values.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


def test_vicreg_is_algorithm_one() -> None:
    one, two = pair()
    variance, covariance = 0.0, 0.0
    for view in (one, two):
        variance += np.maximum(0, 1 - np.sqrt(view.var(axis=0, ddof=1) + 1e-4)).mean()
        matrix = np.cov(view.T)
        covariance += (matrix**2).sum() / 7 - (np.diag(matrix) ** 2).sum() / 7
    found = [term.item() for term in vicreg_terms(*tensors(one, two))]
    assert found == pytest.approx([((one - two) ** 2).mean(), variance, covariance], rel=1e-5)


def test_vicreg_adds_its_terms_with_their_weights() -> None:
    views = [stand_ins.inputs(6, seed=seed) for seed in (1, 2)]

    def loss(**weights: float) -> float:
        torch.manual_seed(0)
        objective, _ = made(Vicreg(width=8, layers=2, **{"variance": 0.0, "covariance": 0.0, **weights}))
        return float(objective(views)[0].detach())

    parts = loss(invariance=3.0) - 2 * loss(invariance=1.0), loss(invariance=1.0)
    assert parts[0] == pytest.approx(parts[1], rel=1e-4)
    base = loss(invariance=1.0)
    both = loss(invariance=1.0, variance=2.0, covariance=5.0)
    split = (loss(invariance=1.0, variance=2.0) - base) + (loss(invariance=1.0, covariance=5.0) - base)
    assert both - base == pytest.approx(split, rel=1e-4)


def test_simsiam_is_the_negative_cosine_and_stops_the_gradient() -> None:
    one, two = pair()
    cosine = (one * two).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
    guess, target = (each.requires_grad_() for each in tensors(one, two))
    loss = simsiam_loss(guess, target)
    assert loss.item() == pytest.approx(-cosine.mean(), rel=1e-5)
    torch.autograd.backward(loss)
    assert guess.grad is not None
    assert target.grad is None


def test_dino_is_the_cross_entropy_of_each_view_against_the_other() -> None:
    student, teacher = pair()
    center = np.linspace(-1, 1, 7)
    targets = softmax((teacher - center) / 0.04)
    p = softmax(student / 0.1)
    crossed = np.concatenate([targets[6:], targets[:6]])
    expected = -(crossed * np.log(p)).sum(axis=1).mean()
    logits, centre = tensors(teacher, center)
    probabilities = teacher_probabilities(logits, centre, 0.04)
    assert dino_loss(tensors(student)[0], probabilities, 0.1).item() == pytest.approx(expected, rel=1e-5)


def test_koleo_is_minus_the_mean_log_distance_to_the_nearest() -> None:
    features, _ = pair()
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    distances = np.linalg.norm(unit[:, None] - unit[None], axis=2) + 1e9 * np.eye(12)
    assert koleo_loss(tensors(features)[0]).item() == pytest.approx(-np.log(distances.min(axis=1)).mean(), rel=1e-4)
    same = torch.ones(4, 3, requires_grad=True)
    torch.autograd.backward(koleo_loss(same))
    assert same.grad is not None
    assert torch.isfinite(same.grad).all()


def test_the_teachers_momentum_rises_to_one_along_a_cosine() -> None:
    assert teacher_momentum(0.9, 0, 100) == pytest.approx(0.9)
    assert teacher_momentum(0.9, 50, 100) == pytest.approx(0.95)
    assert teacher_momentum(0.9, 25, 100) == pytest.approx(1 - 0.1 * (1 + math.cos(math.pi / 4)) / 2)
    assert teacher_momentum(0.9, 100, 100) == 1.0


def made(component: Any, total_steps: int = 20) -> tuple[Any, Any]:
    backbone = stand_ins.backbone()
    context = ObjectiveContext(backbone=backbone, feature_dim=16, image_size=(32, 32), total_steps=total_steps)
    return component.build(context), backbone


SMALL: dict[str, Any] = {"prototypes": 12, "hidden": 8, "bottleneck": 4}


def test_dinos_teacher_and_centre_are_averages_of_what_went_before() -> None:
    torch.manual_seed(0)
    objective, backbone = made(Dino(**SMALL, momentum=0.8, center_momentum=0.75))
    name = "layers.0.mlp.fc1.weight"
    before = backbone.get_parameter(name).detach().clone()
    views = [stand_ins.inputs(6, seed=seed) for seed in (1, 2)]
    objective(views)[0].backward()
    with torch.no_grad():
        answers = objective.head(backbone(torch.cat(views))).mean(dim=0)
        for parameter in backbone.parameters():
            parameter.add_(0.5)
    objective.after_step(0)
    average = dict(objective.teacher.named_buffers())[name.replace(".", "/")]
    torch.testing.assert_close(average, 0.8 * before + 0.2 * backbone.get_parameter(name).detach())
    torch.testing.assert_close(objective.center, 0.25 * answers, rtol=1e-4, atol=1e-6)


def test_dinos_teacher_is_no_copy_of_what_is_frozen_and_gets_no_gradient() -> None:
    backbone = stand_ins.backbone().requires_grad_(False)
    backbone.blocks()[-1].requires_grad_(True)
    context = ObjectiveContext(backbone=backbone, feature_dim=16, image_size=(32, 32), total_steps=20)
    objective: Any = Dino(**SMALL).build(context)
    names = [name for name, _ in objective.teacher.named_buffers()]
    assert names
    assert all(name.startswith("layers/2/") for name in names)
    assert not any(name.startswith(("teacher", "layers")) for name, _ in objective.named_parameters())


def test_dino_holds_its_prototypes_and_lets_the_backbone_in_slowly() -> None:
    views = [stand_ins.inputs(6, seed=seed) for seed in (1, 2)]

    def gradients(step: int) -> tuple[bool, float]:
        torch.manual_seed(0)
        objective, backbone = made(Dino(**SMALL, freeze_last_ratio=0.25, head_warmup_ratio=0.45, koleo=0.0))
        objective.step.fill_(step)
        objective(views)[0].backward()
        return objective.head.prototypes.grad is not None, float(backbone.patches.weight.grad.norm())

    assert [gradients(step)[0] for step in (0, 4, 5, 12)] == [False, False, True, True]
    # Warm-up of 9 steps: a tenth of the gradient at first. Temperature also rises, so only step 0 is compared.
    torch.manual_seed(0)
    objective, backbone = made(Dino(**SMALL, head_warmup_ratio=0.0, koleo=0.0))
    objective(views)[0].backward()
    assert gradients(0)[1] == pytest.approx(0.1 * float(backbone.patches.weight.grad.norm()), rel=1e-4)


def test_prototypes_are_compared_by_direction_only() -> None:
    objective, _ = made(Dino(**SMALL))
    features = torch.randn(5, 16)
    before = objective.head(features)
    with torch.no_grad():
        objective.head.prototypes.mul_(7.0)
    torch.testing.assert_close(objective.head(features), before)
    assert before.abs().max() <= 1 + 1e-5


class Vectors(nn.Module):
    """The smallest backbone: one hidden layer on 12 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(12, 24), nn.Tanh(), nn.Linear(24, 16))

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)
        return features


def test_steps_of_dino_are_those_of_a_plain_rendering() -> None:
    """Five steps written out again with copies of the networks: losses, centre, teachers, weights."""
    total, lr = 8, 0.05
    options = Dino(
        **SMALL,
        momentum=0.7,
        center_momentum=0.6,
        koleo=0.3,
        freeze_last_ratio=0.25,
        head_warmup_ratio=0.375,
        temperature_warmup_ratio=0.5,
        teacher_temperature=0.05,
        teacher_temperature_end=0.09,
    )
    torch.manual_seed(0)
    backbone = Vectors()
    objective: Any = options.build(
        ObjectiveContext(backbone=backbone, feature_dim=16, image_size=(2, 2), total_steps=total)
    )
    student, head = copy.deepcopy(backbone), copy.deepcopy(objective.head)
    teacher, teacher_head = copy.deepcopy(student), copy.deepcopy(head)
    center = torch.zeros(12)
    theirs = torch.optim.SGD([*backbone.parameters(), *objective.head.parameters()], lr=lr)
    held = []

    for step in range(5):
        views = [torch.randn(6, 3, 2, 2, generator=torch.Generator().manual_seed(10 * step + v)) for v in range(2)]
        theirs.zero_grad()
        found = objective(views)[0]
        found.backward()
        theirs.step()
        objective.after_step(step)

        # The same, view by view. Steps 0 to 3 of 8 raise the temperature, 0 to 2 the gradient, 0 and 1 hold the last.
        temperature = 0.05 + (0.09 - 0.05) * min(1.0, step / 4)
        with torch.no_grad():
            taught = [teacher_head(teacher(view)) for view in views]
        targets = [torch.softmax((logits - center) / temperature, dim=1) for logits in taught]
        features = [student(view) for view in views]
        for each in features:
            each.retain_grad()
        guessed = [head(each) for each in features]
        crossed = [-(targets[1 - v] * torch.log_softmax(guessed[v] / 0.1, dim=1)).sum(dim=1).mean() for v in range(2)]
        spread = []
        for each in features:
            unit = each / each.norm(dim=1, keepdim=True)
            distances = (unit[:, None] - unit[None]).norm(dim=2) + 10 * torch.eye(6)
            spread.append(-distances.min(dim=1).values.log().mean())
        loss = sum(crossed) / 2 + 0.3 * sum(spread) / 2
        assert float(found.detach()) == pytest.approx(float(loss.detach()), rel=1e-5)

        share = min(1.0, (step + 1) / 4)
        inner = torch.autograd.grad(loss, [*features, *head.parameters()])
        pulled = [gradient * share for gradient in inner[:2]]
        outer = torch.autograd.grad(features, list(student.parameters()), grad_outputs=pulled)
        moves = [*zip(student.parameters(), outer, strict=True), *zip(head.parameters(), inner[2:], strict=True)]
        with torch.no_grad():
            for parameter, gradient in moves:
                if parameter is not head.prototypes or step >= 2:
                    parameter -= lr * gradient
            center = 0.6 * center + 0.4 * torch.cat(taught).mean(dim=0)
            momentum = 1 - (1 - 0.7) * (1 + math.cos(math.pi * step / total)) / 2
            for slow, live in ((teacher, student), (teacher_head, head)):
                for old, new in zip(slow.parameters(), live.parameters(), strict=True):
                    old.mul_(momentum).add_((1 - momentum) * new)
        torch.testing.assert_close(objective.center, center, rtol=1e-4, atol=1e-6)
        for mine, other in ((student, backbone), (head, objective.head)):
            for one, two in zip(mine.parameters(), other.parameters(), strict=True):
                torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)
        averages = dict(objective.teacher.named_buffers())
        for name, slow_weight in teacher.named_parameters():
            torch.testing.assert_close(averages[name.replace(".", "/")], slow_weight, rtol=1e-4, atol=1e-5)
        held.append(bool((head.prototypes.detach() == objective.head.prototypes.detach()).all()))
    assert held[:2] == [True, True]


def spread_after_training(component: Any, steps: int = 400) -> float:
    """Total deviation of the features after training over that before."""
    torch.manual_seed(0)
    backbone = Vectors()
    context = ObjectiveContext(backbone=backbone, feature_dim=16, image_size=(2, 2), total_steps=steps)
    objective: Any = component.build(context)
    pictures = torch.randn(64, 3, 2, 2)
    trained = {id(p): p for module in (backbone, objective) for p in module.parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(list(trained.values()), lr=3e-3)

    def spread() -> float:
        with torch.no_grad():
            return float(backbone(pictures).std(dim=0).norm())

    start = spread()
    for step in range(steps):
        views = [pictures + 0.3 * torch.randn(pictures.shape) for _ in range(2)]
        optimizer.zero_grad()
        loss, _ = objective(views)
        loss.backward()
        optimizer.step()
        objective.after_step(step)
    return spread() / start


def test_agreement_alone_collapses_and_vicreg_does_not() -> None:
    """Mean squared error between views, without what VICReg adds to it, draws all pictures together."""
    agreement = spread_after_training(Vicreg(width=16, layers=1, variance=0.0, covariance=0.0))
    whole = spread_after_training(Vicreg(width=16, layers=1))
    assert agreement < 0.7
    assert whole > 1.0
    assert agreement < 0.25 * whole
