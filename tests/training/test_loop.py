"""What the loop promises: right gradients, right counting, the exported weights are the ones that were judged."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from roadwork_core.console import Console
from roadwork_core.errors import NumericalError
from roadwork_core.kinds import OptimizerContext
from roadwork_core.training import loop as loop_module
from roadwork_core.training.selection import epoch_metrics

from .toy import PREPROCESSING, TensorFeed, make_loop, per_sample_loss, toy_model


def sgd(context: OptimizerContext) -> torch.optim.Optimizer:
    return torch.optim.SGD(context.param_groups(0.5), momentum=0.9)


def mean_loss(logits: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, target)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def trained(folder: Path, **options: Any) -> dict[str, Tensor]:
    loop = make_loop(folder, **options)
    loop.run()
    return weights(loop.snapshot.model)


def assert_same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


# Clipping hides a wrong scale, and without it a wrong order of clipping would not show: both.
@pytest.mark.parametrize("clip_norm", [None, 0.05])
@pytest.mark.parametrize("loss", [per_sample_loss, mean_loss])
def test_accumulated_batches_equal_one_big_batch_the_last_partial_one_included(
    tmp_path: Path, loss: Callable[[Tensor, Tensor], Tensor], clip_norm: float | None
) -> None:
    # 47 samples: windows of 4 x 5, 4 x 5 and 5 + 2, against batches of 20, 20 and 7.
    shared: dict[str, Any] = {
        "feed": TensorFeed(size=47),
        "loss": loss,
        "optimizer": sgd,
        "epochs": 2,
        "clip_norm": clip_norm,
        "select_by": "nll",
    }
    small = trained(tmp_path / "a", model=toy_model(norm=False, dropout=0), batch_size=5, accumulate=4, **shared)
    big = trained(tmp_path / "b", model=toy_model(norm=False, dropout=0), batch_size=20, **shared)
    for name, tensor in small.items():
        torch.testing.assert_close(tensor, big[name], atol=1e-6, rtol=0)


def test_one_epoch_is_what_a_plain_loop_does(tmp_path: Path) -> None:
    feed = TensorFeed()
    ours = trained(tmp_path, model=toy_model(dropout=0), optimizer=sgd, epochs=1)
    model = toy_model(dropout=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    order = feed.order(0)
    model.train()
    for number, start in enumerate(range(0, 45, 8)):
        [(images, targets)] = feed.training(0, [order[start : start + 8]])
        optimizer.param_groups[0]["lr"] = 0.5 * 0.5 ** (number / 6)
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(model(PREPROCESSING.normalise(images)), targets))
        optimizer.step()
    for name, tensor in weights(model).items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-6, rtol=0)


def test_gradients_are_clipped_once_an_optimizer_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda weights, norm: calls.append(norm))
    make_loop(tmp_path, batch_size=4, accumulate=5, clip_norm=0.3, epochs=2).run()
    assert calls == [0.3] * 6  # 12 batches of 4 are 3 steps, twice


def test_the_scheduler_counts_optimizer_steps(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, batch_size=4, accumulate=5, epochs=2)
    position = loop.run()
    assert loop.snapshot.scheduler.last_epoch == position.step == 6
    assert [line["step"] for line in position.history] == [3, 6]
    # The rate in the history is the one of the epoch's last step.
    assert position.history[0]["lr"]["head"] == pytest.approx(3e-3 * 0.5 ** (2 / 6))


@pytest.mark.parametrize("ema", [None, 0.8])
def test_the_weights_at_the_end_are_those_that_were_judged_best(tmp_path: Path, ema: float | None) -> None:
    feed = TensorFeed()
    loop = make_loop(tmp_path, ema=ema, epochs=5, optimizer=sgd, select_by="nll")
    position = loop.run()
    model = loop.snapshot.model.eval()
    with torch.no_grad():
        pictures, targets = zip(*feed.validation(0, 1), strict=True)
        logits = model(PREPROCESSING.normalise(torch.cat(pictures))).double().numpy()
    again = epoch_metrics(logits, torch.cat(targets).numpy(), 1)
    best = min(position.history, key=lambda line: line["nll"])
    assert again["nll"] == pytest.approx(best["nll"], abs=1e-6)
    assert again["auroc"] == pytest.approx(best["auroc"], abs=1e-6)
    others = [line["nll"] for line in position.history if line is not best]
    assert all(abs(other - best["nll"]) > 1e-5 for other in others)


def test_averaged_weights_differ_from_raw_ones_and_change_nothing_in_the_training(tmp_path: Path) -> None:
    raw = make_loop(tmp_path / "raw", epochs=2, select_by="nll")
    averaged = make_loop(tmp_path / "ema", epochs=2, select_by="nll", ema=0.9)
    losses = [[line["train_loss"] for line in loop.run().history] for loop in (raw, averaged)]
    assert losses[0] == losses[1]
    heads = [loop.snapshot.model.get_parameter("head.weight") for loop in (raw, averaged)]
    assert not torch.equal(*heads)


def test_a_non_finite_loss_stops_the_run_and_names_the_step(tmp_path: Path) -> None:
    calls = [0]

    def breaks(logits: Tensor, target: Tensor) -> Tensor:
        calls[0] += 1
        return per_sample_loss(logits, target) * (math.inf if calls[0] == 9 else 1.0)

    with pytest.raises(NumericalError, match=r"inf in epoch 2, step 3 of 6 \(optimizer step 9\)") as caught:
        make_loop(tmp_path, loss=breaks).run()
    assert caught.value.exit_code == 3
    saved = (tmp_path / "checkpoint.safetensors").stat()
    assert saved.st_size > 0
    # What was saved is the state before it went wrong: the same command meets the same end, not a poisoned start.
    loop = make_loop(tmp_path, epochs=2)
    assert loop.run().step == 12


def test_weights_that_become_non_finite_in_the_last_step_are_never_kept(tmp_path: Path) -> None:
    class Explodes(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(float("nan"))

    with pytest.raises(NumericalError, match="logits on val_select are not finite after epoch 1"):
        make_loop(
            tmp_path, batch_size=45, epochs=1, optimizer=lambda context: Explodes(context.param_groups(0.1))
        ).run()
    assert not list(tmp_path.glob("best-*"))


def test_training_stops_when_patience_is_out_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    loop = make_loop(
        tmp_path, epochs=30, patience=2, optimizer=lambda context: torch.optim.SGD(context.param_groups(0.0))
    )
    position = loop.run()
    assert position.best is not None
    # Nothing learns, but BatchNorm's statistics settle: the best epoch is among the first, two more follow it.
    assert len(position.history) == int(position.best.removeprefix("best-").removesuffix(".safetensors")) + 2


def test_early_stopping_is_remembered_by_a_finished_run(tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 30, "patience": 1}
    first = trained(tmp_path, **options)
    feed = TensorFeed()
    assert_same(first, trained(tmp_path, feed=feed, **options))
    assert feed.seen == []


def test_a_stopped_epoch_goes_on_with_the_samples_that_it_had_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "CHECKPOINT_COST", 0)
    options: dict[str, Any] = {"ema": 0.9, "clip_norm": 1.0, "accumulate": 2, "checkpoint_seconds": 0.0}
    whole = TensorFeed()
    expected = trained(tmp_path / "whole", feed=whole, **options)

    class Power(Exception):
        pass

    batches = [0]

    def cut() -> None:
        batches[0] += 1
        if batches[0] in (4, 9, 10, 14):
            raise Power

    parts = TensorFeed(before_batch=cut)
    for _ in range(4):
        with pytest.raises(Power):
            make_loop(tmp_path / "parts", feed=parts, **options).run()
    assert_same(expected, trained(tmp_path / "parts", feed=parts, **options))
    # A batch whose step was lost is seen again; none is left out and the order is the same.
    repeated = [batch for number, batch in enumerate(parts.seen) if batch not in parts.seen[:number]]
    assert repeated == whole.seen


def test_a_loss_hears_of_each_epoch_and_of_one_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "CHECKPOINT_COST", 0)
    heard: list[tuple[int, int]] = []

    class Staged:
        def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
            return per_sample_loss(logits, target)

        def begin_epoch(self, epoch: int, epochs: int) -> None:
            heard.append((epoch, epochs))

    batches = [0]

    def cut() -> None:
        batches[0] += 1
        if batches[0] == 9:
            raise OSError("the power is cut")

    options: dict[str, Any] = {"loss": Staged(), "checkpoint_seconds": 0.0, "epochs": 3}
    with pytest.raises(OSError, match="the power"):
        make_loop(tmp_path, feed=TensorFeed(before_batch=cut), **options).run()
    assert heard == [(0, 3), (1, 3)]
    make_loop(tmp_path, **options).run()
    assert heard == [(0, 3), (1, 3), (1, 3), (2, 3)]


@pytest.mark.parametrize("stop_at", [2, 6, 7, 13])
def test_ctrl_c_ends_between_two_steps_says_so_and_the_next_run_ends_alike(tmp_path: Path, stop_at: int) -> None:
    import signal

    expected = trained(tmp_path / "whole", ema=0.9)
    batches = [0]

    def interrupt() -> None:
        batches[0] += 1
        if batches[0] == stop_at:
            signal.raise_signal(signal.SIGTERM if stop_at == 7 else signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match=r"interrupted in epoch \d after \d of 6 steps; the same command"):
        make_loop(tmp_path / "parts", feed=TensorFeed(before_batch=interrupt), ema=0.9).run()
    assert batches[0] == stop_at
    assert signal.getsignal(signal.SIGINT) is before
    assert_same(expected, trained(tmp_path / "parts", ema=0.9))


def test_ctrl_c_during_validation_is_obeyed_too(tmp_path: Path) -> None:
    import signal

    expected = trained(tmp_path / "whole", ema=0.9)

    class Interrupts(TensorFeed):
        def validation(self, rank: int, world: int) -> Any:
            for batch in super().validation(rank, world):
                signal.raise_signal(signal.SIGINT)
                yield batch

    with pytest.raises(KeyboardInterrupt, match="epoch 1 after 6 of 6"):
        make_loop(tmp_path / "parts", feed=Interrupts(), ema=0.9).run()
    again = TensorFeed()
    assert_same(expected, trained(tmp_path / "parts", feed=again, ema=0.9))
    assert len(again.seen) == 12


def test_a_loader_that_died_of_the_same_ctrl_c_is_not_the_error_that_is_told(tmp_path: Path) -> None:
    import signal

    def dies() -> None:
        signal.raise_signal(signal.SIGINT)
        raise RuntimeError("DataLoader worker exited unexpectedly")

    with pytest.raises(KeyboardInterrupt):
        make_loop(tmp_path, feed=TensorFeed(before_batch=dies)).run()


def test_how_often_checkpoints_are_written_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "CHECKPOINT_COST", 0)
    assert_same(
        trained(tmp_path / "often", checkpoint_seconds=0.0), trained(tmp_path / "seldom", checkpoint_seconds=1e9)
    )


def test_dropout_and_mixup_follow_from_the_seed_and_the_step(tmp_path: Path) -> None:
    def mix(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        share, other = torch.rand(()), torch.randperm(len(images))
        return share * images + (1 - share) * images[other], share * targets + (1 - share) * targets[other]

    torch.manual_seed(1)
    first = trained(tmp_path / "a", mix=(mix,))
    torch.manual_seed(2)
    assert_same(first, trained(tmp_path / "b", mix=(mix,)))
    other = trained(tmp_path / "c", mix=(mix,), seed=1)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_loss_and_metrics_are_float32_under_bf16(tmp_path: Path) -> None:
    seen = []

    def watching(logits: Tensor, target: Tensor) -> Tensor:
        seen.append((logits.dtype, torch.is_autocast_enabled("cpu")))
        return per_sample_loss(logits, target)

    inside = []
    model = toy_model()
    model.get_submodule("backbone.conv").register_forward_hook(lambda module, args, output: inside.append(output.dtype))
    loop = make_loop(tmp_path, model=model, loss=watching, precision="bf16", epochs=1)
    loop.run()
    assert set(seen) == {(torch.float32, False)}
    assert set(inside) == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_off_a_terminal_there_is_one_line_an_epoch(tmp_path: Path) -> None:
    said = io.StringIO()
    make_loop(tmp_path, epochs=3, console=Console(stderr=said)).run()
    spoken = said.getvalue().splitlines()
    assert len(spoken) == 3
    assert spoken[0].startswith("epoch 1/3  loss ")
    assert "val_select mcc" in spoken[0]
    assert "(best)" in spoken[0]
    assert "left" in spoken[0]
    assert "\r" not in said.getvalue()


def test_each_epoch_is_told_once_with_its_line_of_the_history(tmp_path: Path) -> None:
    told: list[Mapping[str, Any]] = []
    position = make_loop(tmp_path, epochs=2, on_epoch=told.append).run()
    assert told == position.history
    assert set(told[0]) >= {
        *("epoch", "step", "lr", "train_loss", "nll", "mcc", "auroc", "seconds", "images_per_second")
    }


def test_the_training_loss_is_the_mean_over_the_samples(tmp_path: Path) -> None:
    kept = []

    def keeping(logits: Tensor, target: Tensor) -> Tensor:
        losses = per_sample_loss(logits, target)
        kept.extend(losses.tolist())
        return losses

    position = make_loop(tmp_path, loss=keeping, epochs=1, batch_size=7, accumulate=3).run()
    assert len(kept) == 45
    assert position.history[0]["train_loss"] == pytest.approx(np.mean(kept), rel=1e-6)


def test_a_checkpoint_of_another_backbone_is_refused(tmp_path: Path) -> None:
    from roadwork_core.errors import RoadworkError

    model = toy_model()
    model.get_submodule("backbone.conv").requires_grad_(False)
    make_loop(tmp_path, model=model, epochs=1).run()
    other = toy_model()
    other.get_submodule("backbone.conv").requires_grad_(False)
    with torch.no_grad():
        other.get_parameter("backbone.conv.weight")[0, 0, 0, 0] += 1e-3
    with pytest.raises(RoadworkError, match="weights that do not train have changed"):
        make_loop(tmp_path, model=other, epochs=2).run()
