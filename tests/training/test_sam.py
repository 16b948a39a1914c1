"""The second pass of SAM, against its equations written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from roadwork_core.kinds import OptimizerContext
from roadwork_core.training.loop import Loop
from roadwork_core.training.plan import epoch_windows
from roadwork_core.training.snapshot import Snapshot
from tests.training.toy import PREPROCESSING, TensorFeed, make_loop, per_sample_loss, toy_model

SAM = pytest.importorskip("roadwork_schedulers.sam").SharpnessAware
RHO, LR = 0.5, 0.1


def sam(context: OptimizerContext) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer = SAM(torch.optim.SGD(context.param_groups(LR), momentum=0.9), RHO)
    return optimizer


def constant(context: Any) -> Any:
    return torch.optim.lr_scheduler.LambdaLR(context.optimizer, lambda step: 1.0)


def loop(folder: Path, **changes: Any) -> Loop:
    return make_loop(
        folder, **{"optimizer": sam, "scheduler": constant, "epochs": 2, "batch_size": 8, "accumulate": 2, **changes}
    )


def by_hand(epochs: int) -> nn.Module:
    """Every step of the toy: gradient, uphill by rho, gradient of the same samples there, back, momentum."""
    model, feed = toy_model(dropout=0), TensorFeed()
    weights = list(model.parameters())
    momentum = [torch.zeros_like(weight) for weight in weights]

    def gradient(batches: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
        total = sum(len(targets) for _, targets in batches)
        losses = [per_sample_loss(model(PREPROCESSING.normalise(x)), y).sum() / total for x, y in batches]
        return list(torch.autograd.grad(torch.stack(losses).sum(), weights))

    model.train()
    for epoch in range(epochs):
        for window in epoch_windows(feed.order(epoch), 8, 2):
            batches = list(feed.training(epoch, [micro.indices for micro in window.batches]))
            first = gradient(batches)
            statistics = {name: buffer.clone() for name, buffer in model.named_buffers()}
            length = torch.cat([one.flatten() for one in first]).norm()
            with torch.no_grad():
                for weight, one in zip(weights, first, strict=True):
                    weight.add_(RHO * one / length)
            second = gradient(batches)
            with torch.no_grad():
                for weight, one, two, speed in zip(weights, first, second, momentum, strict=True):
                    weight.sub_(RHO * one / length)
                    speed.mul_(0.9).add_(two)
                    weight.sub_(LR * speed)
                for name, buffer in model.named_buffers():
                    buffer.copy_(statistics[name])
    return model


def test_the_loop_takes_the_steps_of_the_paper_and_counts_statistics_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = by_hand(2).state_dict()
    made = loop(tmp_path, model=toy_model(dropout=0), select_by="nll", epochs=2)
    # The weights of the last epoch, whichever was the best.
    monkeypatch.setattr(Snapshot, "load_best", lambda self, position: None)
    made.run()
    for name, tensor in made.snapshot.model.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5, msg=name)


def test_a_second_pass_sees_the_same_dropout_and_an_interruption_changes_no_bit(tmp_path: Path) -> None:
    import signal

    whole = loop(tmp_path / "whole")
    whole.run()
    count = 0

    def interrupt() -> None:
        nonlocal count
        count += 1
        if count in (3, 9):
            signal.raise_signal(signal.SIGINT)

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            loop(tmp_path / "parts", feed=TensorFeed(before_batch=interrupt)).run()
    parts = loop(tmp_path / "parts", feed=TensorFeed(before_batch=interrupt))
    parts.run()
    for name, tensor in whole.snapshot.model.state_dict().items():
        assert torch.equal(tensor, parts.snapshot.model.state_dict()[name]), name


def test_uphill_and_back_is_exact_and_a_scale_of_the_loss_drops_out() -> None:
    weight = nn.Parameter(torch.tensor([3.0, -4.0]))
    optimizer = SAM(torch.optim.SGD([weight], lr=1.0), 0.5)
    places = []
    for scale in (1.0, 65536.0):
        weight.grad = weight.detach() * scale
        optimizer.ascend()
        places.append(weight.detach().clone())
        optimizer.descend()
        optimizer.zero_grad()
        assert weight.tolist() == [3.0, -4.0]
    torch.testing.assert_close(places[0], torch.tensor([3.3, -4.4]))
    torch.testing.assert_close(places[0], places[1])
