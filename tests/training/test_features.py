"""Kept features: the same head as without them, each computed once, safe from damage, kills, neighbours and growth."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from roadwork_core.console import Console
from roadwork_core.errors import SpecError
from roadwork_core.files import sha256_file
from roadwork_core.plugins import Plugins
from roadwork_core.stages import score, train
from roadwork_core.training.extraction import Extractor
from roadwork_core.training.features import FeatureCache, FeatureStore, sample_key, weights_digest
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
[adapter]
use = "frozen"
[head]
use = "linear"
dropout = 0.2
[optimizer]
use = "adamw"
lr = 3e-2
[train]
epochs = 3
batch_size = 16
accumulate = 2
ema = 0.9
precision = "fp32"
"""
AUGMENT = """
[[augment]]
use = "horizontal_flip"
[[augment]]
use = "color_jitter"
brightness = 0.4
contrast = 0.4
"""
MADE_BY = {"weights": "w"}


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins.load()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished stage prepare of 72 + 24 + 21 + 19 pictures, three of four with a bright square."""
    rng = np.random.default_rng(0)

    def pictures(size: int) -> Iterator[Labelled]:
        for number in range(size):
            target = int(number % 4 > 0)
            pixels = rng.integers(0, 160, (24, 20, 3), dtype=np.uint8)
            pixels[4:14, 4:14] += np.uint8(70 * target)
            yield Image.fromarray(pixels), target

    splits = {"train": pictures(72), "val_select": pictures(24), "val_calib": pictures(21), "test": pictures(19)}
    return write_prepared(tmp_path_factory.mktemp("prepared"), splits, per_group=8)


def trained(prepared: Path, plugins: Plugins, folder: Path, spec: str, told: io.StringIO | None = None) -> Any:
    """Metrics of the stage train in the run `folder`; runs of one parent folder share their cache."""
    context = stage_context("train", prepared, plugins, folder, spec, console=Console(stderr=told or io.StringIO()))
    return train.run(context)


def weights(folder: Path) -> bytes:
    return (folder / "train" / "weights.safetensors").read_bytes()


def history(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "train" / "history.jsonl").read_text().splitlines()]
    return [{**line, "seconds": 0, "images_per_second": 0} for line in lines]


@pytest.mark.parametrize("sampler", ["shuffle", "class_balanced", "group_balanced"])
def test_the_head_is_the_same_with_and_without_kept_features_to_the_bit(
    prepared: Path, plugins: Plugins, tmp_path: Path, sampler: str
) -> None:
    spec = SPEC + f'sampler = "{sampler}"\n'
    kept = trained(prepared, plugins, tmp_path / "kept", spec)
    plain = trained(prepared, plugins, tmp_path / "plain", spec + 'feature_cache = "off"\n')
    again = trained(prepared, plugins, tmp_path / "again", spec)
    assert plain["features"] is None
    assert (kept["features"]["computed"], again["features"]["computed"]) == (96, 0)
    assert weights(tmp_path / "kept") == weights(tmp_path / "plain") == weights(tmp_path / "again")
    assert history(tmp_path / "kept") == history(tmp_path / "plain")


def scored(prepared: Path, plugins: Plugins, folder: Path, spec: str) -> tuple[Any, dict[str, bytes]]:
    """What the manifest of the stage score says of features, and the files of logits by split."""
    metrics = score.run(stage_context("score", prepared, plugins, folder, spec))
    return metrics["features"], {path.stem: path.read_bytes() for path in (folder / "score").glob("*.csv")}


def test_the_logits_are_the_same_with_and_without_kept_features_to_the_bit(
    prepared: Path, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = SPEC + 'feature_cache = "off"\n'
    trained(prepared, plugins, tmp_path / "runs" / "one", SPEC)
    trained(prepared, plugins, tmp_path / "plain" / "one", off)
    features, kept = scored(prepared, plugins, tmp_path / "runs" / "one", SPEC)
    nothing, plain = scored(prepared, plugins, tmp_path / "plain" / "one", off)
    assert (features, nothing) == ({"kept": 24 + 21 + 19, "computed": 24 + 21 + 19}, None)
    assert kept == plain
    assert kept.keys() == {"val_select", "val_calib", "test"}

    # Another head on the same backbone decodes no picture at all.
    other = SPEC.replace("lr = 3e-2", "lr = 1e-2")
    trained(prepared, plugins, tmp_path / "runs" / "two", other)
    monkeypatch.setattr("roadwork_core.data.loading.load_raw", lambda *_, **__: pytest.fail("a picture is decoded"))
    features, logits = scored(prepared, plugins, tmp_path / "runs" / "two", other)
    assert features["computed"] == 0
    assert logits != kept


def test_views_are_computed_from_pictures(prepared: Path, plugins: Plugins, tmp_path: Path) -> None:
    spec = SPEC + '[tta]\nuse = "flip"\n'
    trained(prepared, plugins, tmp_path, spec)
    features, _ = scored(prepared, plugins, tmp_path, spec)
    assert features == {"kept": 0, "computed": 0}


def test_in_bf16_kept_features_are_those_of_bf16(prepared: Path, plugins: Plugins, tmp_path: Path) -> None:
    half = SPEC.replace('precision = "fp32"', 'precision = "bf16"').replace("epochs = 3", "epochs = 1")
    trained(prepared, plugins, tmp_path / "fp32", SPEC)
    assert trained(prepared, plugins, tmp_path / "kept", half)["features"]["computed"] == 96
    trained(prepared, plugins, tmp_path / "plain", half + 'feature_cache = "off"\n')
    assert history(tmp_path / "kept") == history(tmp_path / "plain")


def test_what_was_computed_before_an_interruption_is_kept_and_the_end_is_the_same(
    prepared: Path, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(prepared, plugins, tmp_path / "whole" / "run", SPEC)
    compute, calls = Extractor.__call__, [0]

    def interrupting(self: Extractor, pictures: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        return compute(self, pictures)

    with monkeypatch.context() as patch:
        patch.setattr(Extractor, "__call__", interrupting)
        with pytest.raises(KeyboardInterrupt):
            trained(prepared, plugins, tmp_path / "parts" / "first", SPEC)
    metrics = trained(prepared, plugins, tmp_path / "parts" / "again", SPEC)
    assert metrics["features"]["computed"] == 96 - 64
    assert weights(tmp_path / "parts" / "again") == weights(tmp_path / "whole" / "run")


def test_views_are_those_of_the_first_epochs_and_then_come_again(
    prepared: Path, plugins: Plugins, tmp_path: Path
) -> None:
    spec = SPEC + "feature_views = 3\n" + AUGMENT
    metrics = trained(prepared, plugins, tmp_path / "kept", spec)
    assert metrics["features"]["kept"] == 72 * 3 + 24
    plain = spec.replace("feature_views = 3", 'feature_cache = "off"')
    trained(prepared, plugins, tmp_path / "plain", plain)
    assert weights(tmp_path / "kept") == weights(tmp_path / "plain")
    assert history(tmp_path / "kept") == history(tmp_path / "plain")
    more = trained(prepared, plugins, tmp_path / "more", spec.replace("feature_views = 3", "feature_views = 4"))
    assert more["features"]["computed"] == 72
    trained(prepared, plugins, tmp_path / "fewer", spec.replace("feature_views = 3", "feature_views = 2"))
    assert history(tmp_path / "fewer")[:2] == history(tmp_path / "kept")[:2]
    assert history(tmp_path / "fewer")[2] != history(tmp_path / "kept")[2]


def test_what_features_depend_on_makes_new_ones_and_the_rest_does_not(
    prepared: Path, plugins: Plugins, tmp_path: Path
) -> None:
    def computed(name: str, spec: str) -> int:
        return int(trained(prepared, plugins, tmp_path / name, spec)["features"]["computed"])

    assert computed("first", SPEC) == 96
    assert computed("seed", SPEC.replace("seed = 5", "seed = 6")) == 96  # other random weights
    assert computed("fit", SPEC.replace('root = "."', 'root = "."\nfit = "stretch"')) == 96
    assert computed("size", SPEC.replace("image_size = 16", "image_size = 24")) == 96
    assert computed("lr", SPEC.replace("lr = 3e-2", "lr = 1e-2").replace("epochs = 3", "epochs = 1")) == 0
    assert computed("head", SPEC.replace('use = "linear"', 'use = "mlp"').replace("dropout = 0.2", "")) == 0


def test_one_changed_picture_is_the_only_one_that_is_computed_again(
    prepared: Path, plugins: Plugins, tmp_path: Path
) -> None:
    trained(prepared, plugins, tmp_path / "runs" / "first", SPEC)
    own = tmp_path / "prepared"
    (own / "prepare" / "samples").mkdir(parents=True)
    for path in (prepared / "prepare").rglob("*.json*"):
        (own / path.relative_to(prepared)).write_bytes(path.read_bytes())
    table = own / "prepare" / "samples" / "train.jsonl"
    first, *rest = table.read_text().splitlines()
    picture = tmp_path / "new.png"
    Image.new("RGB", (30, 30), (9, 99, 199)).save(picture)
    changed = {**json.loads(first), "path": str(picture), "sha256": sha256_file(picture)}
    table.write_text("\n".join([json.dumps(changed), *rest]) + "\n")
    assert trained(own, plugins, tmp_path / "runs" / "second", SPEC)["features"]["computed"] == 1


def test_insisting_where_it_cannot_be_is_one_line_with_what_to_do(
    prepared: Path, plugins: Plugins, tmp_path: Path
) -> None:
    cases = {
        'feature_cache = "on"': ("weights of the backbone train", '[adapter] use = "frozen"', True),
        "feature_cache_gib = 1e-9\nfeature_cache = \"on\"": ("they may take 0.0 GiB, more than", "raise it", False),
    }  # fmt: skip
    for number, (line, (reason, hint, full)) in enumerate(cases.items()):
        spec = SPEC.replace('use = "frozen"', 'use = "full"') if full else SPEC
        with pytest.raises(SpecError) as caught:
            trained(prepared, plugins, tmp_path / str(number), spec + line + "\n")
        [problem] = caught.value.problems()
        assert problem.key == "train.feature_cache"
        assert reason in problem.message
        assert hint in str(problem.hint)


def test_a_head_that_reads_tokens_says_that_features_are_not_kept(
    prepared: Path, plugins: Plugins, tmp_path: Path
) -> None:
    told = io.StringIO()
    spec = SPEC.replace('use = "linear"', 'use = "attention_pool"').replace("epochs = 3", "epochs = 1")
    assert trained(prepared, plugins, tmp_path / "pool", spec, told)["features"] is None
    [line] = [line for line in told.getvalue().splitlines() if "not kept" in line]
    assert "features are not kept: the head reads tokens" in line
    assert scored(prepared, plugins, tmp_path / "pool", spec)[0] is None
    assert not list((tmp_path / ".cache").rglob("*.safetensors"))


def test_auto_says_why_a_frozen_backbone_with_augmentations_runs_each_epoch(
    prepared: Path, plugins: Plugins, tmp_path: Path
) -> None:
    told = io.StringIO()
    metrics = trained(prepared, plugins, tmp_path / "run", SPEC + AUGMENT, told)
    assert metrics["features"] is None
    assert "augmented pictures differ from epoch to epoch (train.feature_views = 4 keeps" in told.getvalue()


def test_a_folder_that_cannot_be_written_costs_the_file_not_the_run(
    prepared: Path, plugins: Plugins, tmp_path: Path
) -> None:
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "features").write_text("in the way")
    told = io.StringIO()
    metrics = trained(prepared, plugins, tmp_path / "run", SPEC, told)
    assert metrics["features"]["computed"] == 96
    assert told.getvalue().count("features cannot be kept in") == 2  # once per split


# --- the files themselves -----------------------------------------------------------------------------------------


def keys(count: int, start: int = 0) -> list[bytes]:
    return [sample_key(f"{number:064x}", "evaluation") for number in range(start, start + count)]


def test_features_come_back_as_they_were_from_any_mixture_of_files(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, MADE_BY)
    parts = [torch.randn(5, 7), torch.randn(3, 7)]
    store.add(keys(5), parts[0])
    store.add(keys(3, 5), parts[1])
    again = FeatureStore(tmp_path, MADE_BY)
    assert again.missing(keys(10)) == [8, 9]
    order = [6, 0, 7, 7, 4]
    gathered = again.gather(again.places([keys(8)[number] for number in order]))
    assert torch.equal(gathered, torch.cat(parts)[order])
    half = torch.randn(2, 7).bfloat16()
    other = FeatureStore(tmp_path / "half", MADE_BY)
    other.add(keys(2), half)
    assert torch.equal(FeatureStore(tmp_path / "half", MADE_BY).gather(other.places(keys(2))), half)


def test_features_are_mapped_not_read_and_outlive_their_file(tmp_path: Path) -> None:
    FeatureStore(tmp_path, MADE_BY).add(keys(4), torch.arange(8.0).reshape(4, 2))
    store = FeatureStore(tmp_path, MADE_BY)
    [path] = tmp_path.glob("*.safetensors")
    if Path("/proc/self/maps").is_file():
        assert path.name in Path("/proc/self/maps").read_text()
    path.unlink()
    assert store.gather(store.places(keys(4)[2:3])).tolist() == [[4.0, 5.0]]


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "foreign"])
def test_a_damaged_file_is_made_anew(tmp_path: Path, damage: str) -> None:
    FeatureStore(tmp_path, MADE_BY).add(keys(4), torch.randn(4, 8))
    [path] = tmp_path.glob("*.safetensors")
    content = bytearray(path.read_bytes())
    if damage == "truncate":
        content = content[:-10]
    elif damage == "flip":
        content[-5] ^= 1
    elif damage == "empty":
        content = bytearray()
    made_by = {"weights": "other"} if damage == "foreign" else MADE_BY
    path.write_bytes(content)
    store = FeatureStore(tmp_path, made_by)
    assert store.missing(keys(4)) == [0, 1, 2, 3]
    assert list(tmp_path.iterdir()) == []


def test_the_least_recently_used_files_go_first_and_the_limit_holds(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, limit=10**9)
    stores = [cache.store({"weights": str(number)}) for number in range(4)]
    for number, store in enumerate(stores):
        store.add(keys(10), torch.randn(10, 256))
        for path in store.folder.iterdir():
            os.utime(path, (number, number))
    size = next(stores[0].folder.iterdir()).stat().st_size
    cache.store({"weights": "0"})  # used again just now
    assert cache.trim() == 0
    FeatureCache(tmp_path, limit=2 * size + 10).trim()
    left = [number for number, store in enumerate(stores) if list(store.folder.glob("*.safetensors"))]
    assert left == [0, 3]
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors")) <= 2 * size + 10


def test_what_a_killed_process_left_is_cleared_away_later(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, limit=10**9)
    cache.store(MADE_BY).add(keys(1), torch.randn(1, 2))
    [folder] = tmp_path.iterdir()
    old, new = folder / ".a.safetensors.x1", folder / ".b.safetensors.x2"
    for path in (old, new):
        path.write_bytes(b"part")
    os.utime(old, (1, 1))
    cache.trim()
    assert (old.exists(), new.exists()) == (False, True)


def _add_for_ever(folder: Path, start: int) -> None:
    torch.set_num_threads(1)
    store = FeatureStore(folder, MADE_BY)
    number = start
    while True:
        store.add(keys(50, number), torch.full((50, 400), float(number)))
        number += 50


def test_processes_that_write_at_once_and_are_killed_leave_only_whole_files(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for _ in range(3):
        # Both write the same files, and die at any moment.
        workers = [context.Process(target=_add_for_ever, args=(tmp_path, 0)) for _ in range(2)]
        for worker in workers:
            worker.start()
        time.sleep(0.3)
        for worker in workers:
            os.kill(int(worker.pid or 0), signal.SIGKILL)
            worker.join()
    whole = len(list(tmp_path.glob("*.safetensors")))
    store = FeatureStore(tmp_path, MADE_BY)
    assert whole > 0
    assert len(list(tmp_path.glob("*.safetensors"))) == whole  # none was found damaged
    for block in range(whole):
        values = store.gather(store.places(keys(50, 50 * block)))
        assert torch.equal(values, torch.full((50, 400), float(50 * block)))


def test_the_digest_of_weights_sees_each_bit_name_type_and_shape() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    seen = {weights_digest(module)}
    with torch.no_grad():
        weight = module.get_parameter("0.weight")
        weight[1, 2] = torch.nextafter(weight[1, 2], torch.tensor(9.0))
    seen.add(weights_digest(module))
    module.get_buffer("1.running_mean")[0] += 1
    seen.add(weights_digest(module))
    seen.add(weights_digest(module.double()))
    seen.add(weights_digest(nn.Sequential(module)))
    assert len(seen) == 5
