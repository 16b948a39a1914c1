"""The stages train and score: what is exported is what is scored, and a run does not depend on its workers."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from roadwork_core import component, hookimpl
from roadwork_core.console import Console
from roadwork_core.data.preprocessing import Preprocessing
from roadwork_core.errors import DataError, NumericalError, RoadworkError
from roadwork_core.files import digest_json, sha256_file
from roadwork_core.inference import Scorer, build_tta
from roadwork_core.model import load_weights, rebuild
from roadwork_core.plugins import Plugins
from roadwork_core.runs import Run, StageContext
from roadwork_core.spec import load_spec
from roadwork_core.stages import score, train
from roadwork_core.training.selection import epoch_metrics
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
[head]
use = "linear"
dropout = 0.1
[optimizer]
use = "adamw"
lr = 3e-3
lr_scale = { head = 2.0 }
[train]
epochs = 2
batch_size = 8
accumulate = 2
clip_norm = 1.0
ema = 0.9
precision = "fp32"
"""

SIZES = {"train": 44, "val_select": 20, "val_calib": 12, "test": 10}


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins.load()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished stage prepare: noise, with a bright square in the pictures of roadworks."""
    rng = np.random.default_rng(0)

    def pictures(size: int) -> Iterator[Labelled]:
        for number in range(size):
            pixels = rng.integers(0, 160, (24, 20 + number % 5, 3), dtype=np.uint8)
            pixels[4:14, 4:14] += np.uint8(70 * (number % 2))
            yield Image.fromarray(pixels), number % 2

    return write_prepared(tmp_path_factory.mktemp("run"), {split: pictures(size) for split, size in SIZES.items()})


def context(
    stage: str, prepared: Path, plugins: Plugins, folder: Path, *, console: Console | None = None, spec: str = SPEC
) -> StageContext:
    return stage_context(stage, prepared, plugins, folder, spec, console=console)


@pytest.fixture(scope="module")
def trained(prepared: Path, plugins: Plugins, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    metrics = train.run(context("train", prepared, plugins, folder))
    (folder / "metrics.json").write_text(json.dumps(metrics))
    score.run(context("score", prepared, plugins, folder))
    return folder


def read_scores(path: Path) -> tuple[list[str], list[list[str]]]:
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    return header, rows


def test_train_writes_the_weights_the_description_and_a_line_an_epoch(trained: Path) -> None:
    assert sorted(path.name for path in (trained / "train").iterdir()) == [
        *("history.jsonl", "model.json", "weights.safetensors")
    ]
    history = [json.loads(line) for line in (trained / "train" / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in history] == [1, 2]
    assert history[0]["lr"]["head"] == pytest.approx(2 * history[0]["lr"]["backbone"])
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["val_select"] == max(history, key=lambda line: line["mcc"])
    assert metrics["precision"] == "fp32"


def test_the_scores_are_those_of_the_exported_weights_to_the_bit(trained: Path, plugins: Plugins) -> None:
    document = json.loads((trained / "train" / "model.json").read_text())
    model = rebuild(document, plugins)
    load_weights(model, trained / "train" / "weights.safetensors")
    preprocessing = Preprocessing.from_json(document["preprocessing"])
    tta = build_tta(load_spec(SPEC, plugins).spec.tta, preprocessing, 2)
    scorer = Scorer(model, preprocessing, tta)
    for split, size in SIZES.items():
        if split == "train":
            continue
        header, rows = read_scores(trained / "score" / f"{split}.csv")
        assert header == ["index", "label", "group", "logit_0", "logit_1"]
        assert len(rows) == size
        lines = (trained / "prepare" / "samples" / f"{split}.jsonl").read_text().splitlines()
        samples = [json.loads(line) for line in lines]
        assert [row[:3] for row in rows] == [
            [str(sample["index"]), str(sample["target"]), sample["group"]] for sample in samples
        ]
        pictures = [
            torch.from_numpy(np.asarray(Image.open(sample["path"])).copy()).permute(2, 0, 1) for sample in samples
        ]
        logits = np.array([[float(value) for value in row[3:]] for row in rows])
        np.testing.assert_allclose(logits, scorer.logits(pictures), atol=1e-6)


def test_the_model_says_what_its_adapter_changed(prepared: Path, plugins: Plugins, tmp_path: Path) -> None:
    spec = SPEC + '[adapter]\nuse = "bitfit"\n'
    metrics = train.run(context("train", prepared, plugins, tmp_path, spec=spec))
    document = json.loads((tmp_path / "train" / "model.json").read_text())["adapter"]
    assert document["use"] == "bitfit"
    assert document["options"] == {"train_norms": False}
    assert document["modules"] == metrics["adapted"] != []
    assert document["parameters"] == metrics["parameters"]
    assert 0 < document["parameters"]["trainable"] < document["parameters"]["total"]


def test_the_scores_of_val_select_are_what_the_epoch_was_chosen_by(trained: Path) -> None:
    _, rows = read_scores(trained / "score" / "val_select.csv")
    logits = np.array([[float(value) for value in row[3:]] for row in rows])
    again = epoch_metrics(logits, np.array([int(row[1]) for row in rows]), 1)
    chosen = json.loads((trained / "metrics.json").read_text())["val_select"]
    assert {name: chosen[name] for name in again} == pytest.approx(again, abs=1e-5)


def test_the_tta_is_written_with_a_digest_of_its_options(trained: Path) -> None:
    document = json.loads((trained / "score" / "tta.json").read_text())
    assert document["use"] == "none"
    assert document["digest"] == digest_json({"use": document["use"], "options": document["options"]})


def test_the_number_of_workers_changes_no_byte(trained: Path, prepared: Path, plugins: Plugins, tmp_path: Path) -> None:
    spec = SPEC.replace("workers = 0", "workers = 2")
    train.run(context("train", prepared, plugins, tmp_path, spec=spec))
    assert sha256_file(tmp_path / "train" / "weights.safetensors") == sha256_file(
        trained / "train" / "weights.safetensors"
    )
    score.run(context("score", prepared, plugins, tmp_path, spec=spec))
    assert (tmp_path / "score" / "test.csv").read_bytes() == (trained / "score" / "test.csv").read_bytes()


def test_the_seed_changes_the_weights(trained: Path, prepared: Path, plugins: Plugins, tmp_path: Path) -> None:
    train.run(context("train", prepared, plugins, tmp_path, spec=SPEC.replace("seed = 5", "seed = 6")))
    assert sha256_file(tmp_path / "train" / "weights.safetensors") != sha256_file(
        trained / "train" / "weights.safetensors"
    )


def test_ctrl_c_leaves_a_checkpoint_from_which_the_same_weights_follow(
    trained: Path, prepared: Path, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

    from roadwork_core.training.loop import Loop

    update, steps = Loop._update, [0]

    def interrupting(self: Loop, *, last: bool) -> None:
        steps[0] += 1
        if steps[0] == 2:
            signal.raise_signal(signal.SIGINT)
        update(self, last=last)

    monkeypatch.setattr(Loop, "_update", interrupting)
    with pytest.raises(KeyboardInterrupt, match="the same command goes on from here"):
        train.run(context("train", prepared, plugins, tmp_path))
    assert not (tmp_path / "train" / "weights.safetensors").exists()
    train.run(context("train", prepared, plugins, tmp_path))
    assert steps[0] == 6  # 44 samples are 3 steps of 16, twice, none of them done again
    assert sha256_file(tmp_path / "train" / "weights.safetensors") == sha256_file(
        trained / "train" / "weights.safetensors"
    )


@pytest.mark.parametrize("sampler", ["shuffle", "class_balanced", "group_balanced"])
def test_with_every_sampler_two_interruptions_change_no_byte(
    sampler: str, prepared: Path, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

    from roadwork_core.training.feed import PictureFeed
    from roadwork_core.training.loop import Loop

    spec = SPEC + f'sampler = "{sampler}"\n'
    update, training = Loop._update, PictureFeed.training
    steps, stops, drawn = [0], {2, 5}, []

    def interrupting(self: Loop, *, last: bool) -> None:
        steps[0] += 1
        if steps[0] in stops:
            signal.raise_signal(signal.SIGINT)
        update(self, last=last)

    def listening(self: PictureFeed, epoch: int, batches: Any) -> Any:
        for batch, pictures in zip(batches, training(self, epoch, batches), strict=False):
            drawn.append((epoch, *batch))
            yield pictures

    monkeypatch.setattr(PictureFeed, "training", listening)
    train.run(context("train", prepared, plugins, tmp_path / "whole", spec=spec))
    expected = drawn.copy()
    drawn.clear()
    monkeypatch.setattr(Loop, "_update", interrupting)
    for _ in stops:  # one in each epoch, in the middle of it
        with pytest.raises(KeyboardInterrupt):
            train.run(context("train", prepared, plugins, tmp_path / "parts", spec=spec))
    train.run(context("train", prepared, plugins, tmp_path / "parts", spec=spec))
    assert drawn == expected
    whole, parts = (tmp_path / name / "train" / "weights.safetensors" for name in ("whole", "parts"))
    assert sha256_file(parts) == sha256_file(whole)


def test_a_non_finite_loss_exports_nothing(prepared: Path, plugins: Plugins, tmp_path: Path) -> None:
    spec = SPEC.replace('use = "adamw"\nlr = 3e-3', 'use = "sgd"\nlr = 1e30').replace("clip_norm = 1.0", "")
    with pytest.raises(NumericalError, match=r"in epoch \d, step \d|after epoch 1"):
        train.run(context("train", prepared, plugins, tmp_path, spec=spec))
    assert list((tmp_path / "train").iterdir()) == []


def test_plugins_hear_of_each_epoch(prepared: Path, tmp_path: Path, plugins: Plugins) -> None:
    heard: list[Mapping[str, Any]] = []

    @hookimpl
    def roadwork_epoch_finished(run: Run, metrics: Mapping[str, Any]) -> None:
        heard.append({"run": run.name, **metrics})

    listening = Plugins.load()
    listening._manager.register(SimpleNamespace(roadwork_epoch_finished=roadwork_epoch_finished))
    train.run(context("train", prepared, listening, tmp_path))
    assert [(line["run"], line["epoch"]) for line in heard] == [("toy", 1), ("toy", 2)]


def test_without_val_select_nothing_is_trained(prepared: Path, plugins: Plugins, tmp_path: Path) -> None:
    made = context("train", prepared, plugins, tmp_path)
    (tmp_path / "prepare").unlink()
    (tmp_path / "prepare" / "samples").mkdir(parents=True)
    for name in ("classes.json", "samples/train.jsonl"):
        (tmp_path / "prepare" / name).write_bytes((prepared / "prepare" / name).read_bytes())
    (tmp_path / "prepare" / "samples" / "val_select.jsonl").touch()
    with pytest.raises(DataError, match="val_select has no samples"):
        train.run(made)


@component("adapter", "gain")
class Gain:
    """Freezes the backbone and learns a factor on its features, which merging folds into the last convolution."""

    def build(self, ctx: Any) -> Any:
        for parameter in ctx.backbone.parameters():
            parameter.requires_grad_(False)
        return Gained(ctx.backbone)


class Gained(torch.nn.Module):
    targets = ("features",)

    def __init__(self, plain: torch.nn.Module) -> None:
        super().__init__()
        self.plain = plain
        self.gain = torch.nn.Parameter(torch.ones(1, 16))

    @property
    def module(self) -> torch.nn.Module:
        return self

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.plain(pixel_values) * self.gain

    def merge(self) -> torch.nn.Module:
        # ReLU and the mean commute with a positive factor; the last stage has depth 1 here.
        norm = self.plain.get_submodule("stages.1.down.1")
        assert (self.gain > 0).all()
        with torch.no_grad():
            for name in ("weight", "bias"):
                norm.get_parameter(name).mul_(self.gain[0])
        return self.plain


def test_an_adapter_is_merged_into_the_weights_that_are_scored(prepared: Path, tmp_path: Path) -> None:
    import roadwork_backbones
    import roadwork_datasets
    import roadwork_heads
    import roadwork_losses
    import roadwork_policies
    import roadwork_schedulers
    import roadwork_tta

    plugins = Plugins.of(
        {
            **{"backbones": roadwork_backbones, "heads": roadwork_heads, "losses": roadwork_losses},
            **{"schedulers": roadwork_schedulers, "tta": roadwork_tta, "policies": roadwork_policies},
            **{"datasets": roadwork_datasets, "toy": SimpleNamespace(roadwork_components=lambda: [Gain])},
        }
    )
    spec = (
        SPEC.replace("stages = 2", "stages = 2\ndepth = 1").replace("dropout = 0.1", "") + '[adapter]\nuse = "gain"\n'
    )
    spec = spec.replace("lr_scale = { head = 2.0 }", "lr_scale = { head = 2.0, adapter = 10.0 }")
    metrics = train.run(context("train", prepared, plugins, tmp_path, spec=spec))
    score.run(context("score", prepared, plugins, tmp_path, spec=spec))
    assert metrics["adapted"] == ["features"]
    assert list(metrics["val_select"]["lr"]) == ["adapter", "head"]
    _, rows = read_scores(tmp_path / "score" / "val_select.csv")
    logits = np.array([[float(value) for value in row[3:]] for row in rows])
    again = epoch_metrics(logits, np.array([int(row[1]) for row in rows]), 1)
    assert {name: metrics["val_select"][name] for name in again} == pytest.approx(again, abs=1e-5)


def test_a_frozen_backbone_is_exported_as_it_was_loaded(prepared: Path, plugins: Plugins, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    def exported(epochs: int) -> dict[str, torch.Tensor]:
        spec = SPEC.replace("epochs = 2", f"epochs = {epochs}") + '[adapter]\nuse = "frozen"\n'
        train.run(context("train", prepared, plugins, tmp_path / str(epochs), spec=spec))
        return load_file(tmp_path / str(epochs) / "train" / "weights.safetensors")

    first, second = exported(1), exported(2)
    for name, tensor in first.items():
        if name.startswith("backbone."):
            assert torch.equal(tensor, second[name]), name


def test_trackers_get_each_epoch_in_the_run_directory(prepared: Path, plugins: Plugins, tmp_path: Path) -> None:
    train.run(context("train", prepared, plugins, tmp_path, spec=SPEC + '[[tracker]]\nuse = "jsonl"\n'))
    [path] = (tmp_path / "trackers").rglob("*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 6]
    assert lines[0]["lr.head"] > 0
    assert lines[0]["nll"] > 0


def test_compile_compiles_the_model(
    trained: Path, prepared: Path, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[torch.nn.Module] = []

    def compile_nothing(model: torch.nn.Module) -> Any:
        compiled.append(model)
        return model.forward

    monkeypatch.setattr(torch, "compile", compile_nothing)
    train.run(context("train", prepared, plugins, tmp_path, spec=SPEC + "compile = true\n"))
    assert len(compiled) == 1
    assert sha256_file(tmp_path / "train" / "weights.safetensors") == sha256_file(
        trained / "train" / "weights.safetensors"
    )


def test_a_compiler_that_fails_is_one_line_with_the_way_out(
    prepared: Path, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._dynamo.exc import InternalTorchDynamoError

    def failing(model: Any) -> Any:
        def call(inputs: torch.Tensor) -> torch.Tensor:
            raise InternalTorchDynamoError("no C++ compiler\nwith a long story")

        return call

    monkeypatch.setattr(torch, "compile", failing)
    with pytest.raises(RoadworkError, match=r"torch\.compile failed: no C") as caught:
        train.run(context("train", prepared, plugins, tmp_path, spec=SPEC + "compile = true\n"))
    assert caught.value.hint == "set train.compile = false"
