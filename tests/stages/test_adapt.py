"""The stage adapt: it sees only pictures of train, does not collapse unnoticed, and resumes to the same bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from roadwork_core.data.preprocessing import Preprocessing
from roadwork_core.errors import ExitCode, NumericalError, RoadworkError, UsageError
from roadwork_core.files import sha256_file
from roadwork_core.kinds import BackboneContext
from roadwork_core.model import load_weights
from roadwork_core.plugins import Plugins
from roadwork_core.runs import StageContext
from roadwork_core.runs.context import LeakageError
from roadwork_core.spec import load_spec
from roadwork_core.stages import adapt, train
from roadwork_core.training.collapse import effective_rank, feature_std
from roadwork_core.training.views import ViewDataset
from tests.prepared_run import Labelled, stage_context, write_prepared

SPEC = """
spec_version = 1
name = "toy"
seed = 5
[data]
use = "image_folder"
root = "."
workers = 0
[backbone]
use = "small_cnn"
width = 8
stages = 2
image_size = 16
[adapt]
objective = { use = "vicreg", width = 64, layers = 2 }
adapter = { use = "full" }
optimizer = { use = "adamw", lr = 1e-3 }
epochs = 2
batch_size = 16
[train]
epochs = 1
precision = "fp32"
"""
SAMPLES = 36
Adapted = tuple[Path, Mapping[str, Any]]


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins.load()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished stage prepare: smooth noise of two classes."""
    rng = np.random.default_rng(0)

    def pictures(size: int) -> Iterator[Labelled]:
        for number in range(size):
            coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
            yield coarse.resize((48, 40), Image.Resampling.BICUBIC), number % 2

    return write_prepared(tmp_path_factory.mktemp("run"), {"train": pictures(SAMPLES), "val_select": pictures(8)})


def context(
    prepared: Path, plugins: Plugins, folder: Path, spec: str = SPEC, *, stage: str = "adapt", console: Any = None
) -> StageContext:
    return stage_context(stage, prepared, plugins, folder, spec, console=console)


@pytest.fixture(scope="module")
def adapted(
    prepared: Path, plugins: Plugins, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Mapping[str, Any]]:
    folder = tmp_path_factory.mktemp("adapted")
    return folder, adapt.run(context(prepared, plugins, folder))


def digest(folder: Path) -> str:
    return sha256_file(folder / "adapt" / "weights.safetensors")


def test_it_writes_a_backbone_that_is_not_the_one_it_began_with(
    adapted: Adapted, prepared: Path, plugins: Plugins
) -> None:
    folder, metrics = adapted
    spec = load_spec(SPEC, plugins).spec
    torch.manual_seed(spec.seed)
    backbone = spec.backbone.build(BackboneContext())
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    load_weights(backbone, folder / "adapt" / "weights.safetensors")
    changed = [name for name, tensor in backbone.state_dict().items() if not torch.equal(tensor, before[name])]
    assert len(changed) == len(before)
    assert metrics["epochs"] == 2
    assert metrics["steps"] == 2 * (SAMPLES // 16)


def test_the_stage_train_begins_with_it(adapted: Adapted, prepared: Path, plugins: Plugins, tmp_path: Path) -> None:
    (tmp_path / "adapt").mkdir()
    weights = (adapted[0] / "adapt" / "weights.safetensors").read_bytes()
    (tmp_path / "adapt" / "weights.safetensors").write_bytes(weights)
    frozen = SPEC.replace("[train]", '[adapter]\nuse = "frozen"\n[train]')
    train.run(context(prepared, plugins, tmp_path, frozen, stage="train"))
    from safetensors.torch import load

    trained = load((tmp_path / "train" / "weights.safetensors").read_bytes())
    assert all(torch.equal(trained[f"backbone.{name}"], tensor) for name, tensor in load(weights).items())


def test_the_history_has_a_line_an_epoch_and_one_from_before(adapted: Adapted) -> None:
    lines = [json.loads(line) for line in (adapted[0] / "adapt" / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert lines[0]["loss"] is None
    assert all(math.isfinite(line["loss"]) and line["effective_rank"] > 1 for line in lines[1:])
    assert lines[-1]["effective_rank"] == adapted[1]["effective_rank"]


def test_the_same_seed_gives_the_same_bytes_and_workers_do_not_matter(
    adapted: Adapted, prepared: Path, plugins: Plugins, tmp_path: Path
) -> None:
    adapt.run(context(prepared, plugins, tmp_path / "two", SPEC.replace("workers = 0", "workers = 2")))
    assert digest(tmp_path / "two") == digest(adapted[0])
    adapt.run(context(prepared, plugins, tmp_path / "other", SPEC.replace("seed = 5", "seed = 6")))
    assert digest(tmp_path / "other") != digest(adapted[0])


@pytest.mark.parametrize(
    ("objective", "adapter", "stop_after"),
    [
        ('{ use = "vicreg", width = 64, layers = 2 }', '{ use = "full" }', 2),
        ('{ use = "dino", prototypes = 32, hidden = 16, bottleneck = 8 }', '{ use = "last_blocks" }', 3),
    ],
)
def test_an_interrupted_stage_ends_with_the_same_bytes(
    prepared: Path,
    plugins: Plugins,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    objective: str,
    adapter: str,
    stop_after: int,
) -> None:
    lines = SPEC.replace('{ use = "vicreg", width = 64, layers = 2 }', objective)
    spec = lines.replace('{ use = "full" }', adapter)
    normalise = Preprocessing.normalise

    def noisy(self: Preprocessing, images: Tensor) -> Tensor:
        return normalise(self, images) + 0.1 * torch.randn(images.shape)

    # What is random in a step (dropout, say) must not depend on the steps that this process has taken.
    monkeypatch.setattr(Preprocessing, "normalise", noisy)
    adapt.run(context(prepared, plugins, tmp_path / "whole", spec))

    step = adapt._Adaptation._step

    def stopping(self: Any, views: Tensor) -> None:
        step(self, views)
        if self.position.step == stop_after:
            self._stop.received = 2

    with monkeypatch.context() as patch:
        patch.setattr(adapt._Adaptation, "_step", stopping)
        with pytest.raises(KeyboardInterrupt, match="the same command goes on from here"):
            adapt.run(context(prepared, plugins, tmp_path / "stopped", spec))
    done: list[int] = []

    def counting(self: Any, views: Tensor) -> None:
        done.append(self.position.step)
        step(self, views)

    monkeypatch.setattr(adapt._Adaptation, "_step", counting)
    adapt.run(context(prepared, plugins, tmp_path / "stopped", spec))
    assert done[0] == stop_after
    assert digest(tmp_path / "stopped") == digest(tmp_path / "whole")


def test_a_collapse_stops_the_stage_and_says_so(
    prepared: Path, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = adapt._Adaptation._step

    def collapsing(self: Any, views: Tensor) -> None:
        step(self, views)
        with torch.no_grad():
            for parameter in self.adapted.module.blocks()[-1].parameters():
                parameter.fill_(0.1 if parameter.ndim == 1 else 0.0)

    monkeypatch.setattr(adapt._Adaptation, "_step", collapsing)
    with pytest.raises(RoadworkError, match="the features collapsed in epoch 1") as raised:
        adapt.run(context(prepared, plugins, tmp_path))
    assert raised.value.exit_code is ExitCode.FAILED
    assert "vicreg" in str(raised.value)
    assert not (tmp_path / "adapt" / "weights.safetensors").exists()


def test_a_loss_that_is_not_finite_names_the_step(prepared: Path, plugins: Plugins, tmp_path: Path) -> None:
    spec = SPEC.replace("lr = 1e-3", "lr = 1e30")
    with pytest.raises(NumericalError, match=r"optimizer step [12]"):
        adapt.run(context(prepared, plugins, tmp_path, spec))


def test_an_adapter_that_leaves_nothing_to_train_is_refused(prepared: Path, plugins: Plugins, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing of the backbone to train"):
        adapt.run(
            context(
                prepared, plugins, tmp_path, SPEC.replace('adapter = { use = "full" }', 'adapter = { use = "frozen" }')
            )
        )


def test_it_may_not_see_another_split(prepared: Path, plugins: Plugins, tmp_path: Path) -> None:
    ctx = context(prepared, plugins, tmp_path)
    for split in ("val_select", "val_calib", "test"):
        with pytest.raises(LeakageError):
            ctx.input("prepare", f"samples/{split}.jsonl")


def test_views_differ_and_follow_from_seed_epoch_and_sample(prepared: Path) -> None:
    from roadwork_core.data.loading import read_rows

    rows = read_rows(prepared / "prepare" / "samples" / "train.jsonl")
    preprocessing = Preprocessing(size=(16, 16), mean=(0, 0, 0), std=(1, 1, 1))

    def views(position: int, *, epoch: int = 0, seed: int = 1, order: Callable[[Any], Any] = list) -> Tensor:
        data = ViewDataset(order(rows), preprocessing, views=2, seed=seed, max_pixels=10**8)
        torch.manual_seed(position * 17 + 3)  # other states of the global generator must not matter
        return data[(epoch, position)][0]

    assert views(4).shape == (2, 3, 16, 16)
    assert views(4).dtype is torch.uint8
    assert not torch.equal(*views(4))
    assert not torch.equal(views(4), views(4, epoch=1))
    assert not torch.equal(views(4), views(4, seed=2))
    assert torch.equal(views(4), views(len(rows) - 5, order=lambda found: list(reversed(found))))
    seen = {tuple(view.flatten().tolist()) for position in range(6) for view in views(position)}
    assert len(seen) == 12


def test_no_label_leaves_the_views(prepared: Path) -> None:
    from roadwork_core.data.loading import read_rows

    rows = read_rows(prepared / "prepare" / "samples" / "train.jsonl")
    preprocessing = Preprocessing(size=(16, 16), mean=(0, 0, 0), std=(1, 1, 1))
    data = ViewDataset(rows, preprocessing, views=2, seed=0, max_pixels=10**8)
    assert {data[position][1] for position in range(4)} == {0}
    assert {row.target for row in rows[:4]} == {0, 1}


def test_effective_rank_of_known_spectra() -> None:
    rng = np.random.default_rng(0)
    left = np.linalg.qr(rng.normal(size=(200, 6)) - rng.normal(size=(200, 6)).mean(axis=0))[0]
    left = np.linalg.qr(left - left.mean(axis=0))[0]
    right = np.linalg.qr(rng.normal(size=(10, 6)))[0]
    for spectrum in ([1.0] * 6, [5.0, 1.0, 1.0, 0.5, 0.1, 0.01], [1.0, 0, 0, 0, 0, 0]):
        shares = np.array(spectrum) / sum(spectrum)
        entropy = -sum(share * math.log(share) for share in shares if share > 0)
        features = left @ np.diag(spectrum) @ right.T + 3.0  # a shift is no spread
        assert effective_rank(torch.from_numpy(features)) == pytest.approx(math.exp(entropy), rel=1e-6)
    assert effective_rank(torch.full((20, 4), 7.3)) == 0.0


def test_feature_std_of_even_and_of_collapsed_features() -> None:
    rng = np.random.default_rng(0)
    even = torch.from_numpy(rng.normal(size=(20_000, 64)))
    assert feature_std(even) == pytest.approx(1 / math.sqrt(64), rel=0.01)
    assert feature_std(torch.ones(50, 64)) == pytest.approx(0.0, abs=1e-7)
