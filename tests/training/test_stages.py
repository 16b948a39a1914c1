"""The stages train and score: what is exported is what is scored, and a run does not depend on its workers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from roadwork_core import hookimpl
from roadwork_core.console import Console
from roadwork_core.data.preprocessing import Preprocessing
from roadwork_core.data.sample import Row
from roadwork_core.data.table import write_rows
from roadwork_core.errors import DataError, NumericalError
from roadwork_core.files import digest_json, sha256_file
from roadwork_core.inference import Scorer, build_tta
from roadwork_core.model import load_weights, rebuild
from roadwork_core.plugins import Plugins
from roadwork_core.runs import Run, StageContext
from roadwork_core.spec import load_spec
from roadwork_core.stages import STAGES, score, train

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
    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    index = 0
    for split, size in SIZES.items():
        rows = []
        for number in range(size):
            target = number % 2
            pixels = rng.integers(0, 160, (24, 20 + number % 5, 3), dtype=np.uint8)
            pixels[4:14, 4:14] += np.uint8(70 * target)
            path = folder / f"{split}-{number}.png"
            Image.fromarray(pixels).save(path)
            rows.append(
                Row(
                    **{"index": index, "path": str(path), "label": ("clear", "roadwork")[target], "target": target},
                    **{"split": split, "group": f"g, {number // 2}", "sha256": "", "phash": "", "width": 20},
                    height=24,
                )
            )
            index += 1
        write_rows(folder / "prepare" / "samples" / f"{split}.jsonl", rows)
    (folder / "prepare" / "classes.json").write_text(json.dumps({"classes": ["clear", "roadwork"], "positive": 1}))
    return folder


def context(
    stage: str, prepared: Path, plugins: Plugins, folder: Path, *, console: Console | None = None, spec: str = SPEC
) -> StageContext:
    run = Run(name="toy", path=folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "prepare").exists():
        (folder / "prepare").symlink_to(prepared / "prepare")
    (folder / stage).mkdir(exist_ok=True)
    reads = next(known.reads for known in STAGES if known.name == stage)
    return StageContext(
        stage=stage,
        run=run,
        resolved=load_spec(spec, plugins),
        plugins=plugins,
        console=console or Console(stderr=io.StringIO()),
        folder=folder / stage,
        scratch=folder / f".{stage}.scratch",
        reads=reads,
    )


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


def test_the_scores_of_val_select_are_what_the_epoch_was_chosen_by(trained: Path) -> None:
    from roadwork_core.training.selection import epoch_metrics

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
