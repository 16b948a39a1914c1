"""Two processes on shares of each batch reach what one process reaches on all of it, and judge each sample once."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roadwork_core.training.loop import Loop

from .toy import TensorFeed, make_loop, toy_model

ROOT = Path(__file__).parents[2]

WORKER = """
import json, sys
from pathlib import Path
import torch
from roadwork_core.training import loop as loop_module
from roadwork_core.training.shards import is_sharded, own_share, whole
from tests.training.toy import TensorFeed, make_loop, toy_model
torch.set_num_threads(1)
sharded = sys.argv[2:] == ["sharded"]

def made(folder, **more):
    feed = TensorFeed(size=41, validation_size=29, **more)
    return make_loop(
        Path(sys.argv[1], folder), model=toy_model(norm=False, dropout=0), feed=feed, sharded=sharded,
        accumulate=2, epochs=2, ema=0.8, clip_norm=0.1, checkpoint_seconds=0,
    )

def weights(loop):
    parts = {"head": "head.weight", "conv": "backbone.conv.weight"}
    return {key: whole(loop.snapshot.model.get_parameter(name).detach()) for key, name in parts.items()}

loop = made("whole")
assert loop.accelerator.num_processes == 2
assert is_sharded(loop.snapshot.model) is sharded
position = loop.run()
result = {key: tensor.flatten().tolist() for key, tensor in weights(loop).items()}
result["history"] = position.history
result["held"] = sum(own_share(parameter).numel() for parameter in loop.snapshot.model.parameters())
result["total"] = sum(parameter.numel() for parameter in loop.snapshot.model.parameters())

# Once more, stopped in the second epoch and begun again from its last checkpoint.
loop_module.CHECKPOINT_COST = 0
batches = 0
def fail():
    global batches
    batches += 1
    if batches == 9:
        raise RuntimeError("the power is cut")
cut = made("cut", before_batch=fail)
try:
    cut.run()
except RuntimeError:
    assert (cut.position.epoch, cut.position.window) == (1, 1)
resumed = made("cut")
result["again"] = resumed.run().history
assert resumed.snapshot.path.is_file()
result["exact"] = all(torch.equal(tensor, weights(loop)[key]) for key, tensor in weights(resumed).items())
Path(sys.argv[1], f"rank-{loop.accelerator.process_index}.json").write_text(json.dumps(result))
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["whole", "sharded"])
def test_two_processes_equal_one_and_resume_exactly(weights: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ,
        **{"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_WORLD_SIZE": "2"},
        **{"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path), weights],
            cwd=ROOT,
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said[-2000:]
    ranks = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2)]

    def in_one_process(folder: str) -> Loop:
        model, feed = toy_model(norm=False, dropout=0), TensorFeed(size=41, validation_size=29)
        return make_loop(tmp_path / folder, model=model, feed=feed, accumulate=2, epochs=2, ema=0.8, clip_norm=0.1)

    alone = in_one_process("alone")
    history = alone.run().history
    expected_weights = {
        "head": alone.snapshot.model.get_parameter("head.weight").flatten().tolist(),
        "conv": alone.snapshot.model.get_parameter("backbone.conv.weight").flatten().tolist(),
    }
    # Checkpoints hold whole tensors: one process reads what two have saved.
    read = in_one_process("cut")
    assert read.run().history == ranks[0]["again"]
    assert read.snapshot.model.get_parameter("head.weight").flatten().tolist() == ranks[0]["head"]
    for found in ranks:
        assert found["exact"]
        assert found["held"] == (found["total"] if weights == "whole" else pytest.approx(found["total"] / 2, abs=20))
        for part, values in expected_weights.items():
            assert found[part] == pytest.approx(values, abs=1e-5), part
        for line, expected in zip(found["history"], history, strict=True):
            for key in ("train_loss", "nll", "auroc", "mcc"):
                assert line[key] == pytest.approx(expected[key], abs=1e-5)


KEEPER = """
import io, json, sys
from contextlib import nullcontext
from pathlib import Path
import torch
from roadwork_backbones import SmallCnn
from roadwork_core.console import Console
from roadwork_core.data.sample import Row
from roadwork_core.kinds import BackboneContext
from roadwork_core.training.extraction import Extractor
from roadwork_core.training.features import FeatureCache
from roadwork_core.training.kept import Keeper
from roadwork_core.training.precision import make_accelerator
torch.set_num_threads(1)
folder = Path(sys.argv[1])
rows = [Row(**values) for values in json.loads((folder / "rows.json").read_text())]
accelerator, _ = make_accelerator("fp32")
torch.manual_seed(0)
backbone = SmallCnn(width=4, stages=2, image_size=16).build(BackboneContext())
extractor = Extractor(
    backbone=backbone, preprocessing=backbone.preprocessing, device=accelerator.device, autocast=nullcontext
)
keeper = Keeper(
    cache=FeatureCache(folder / "features", limit=10**9), extractor=extractor, made_by={}, accelerator=accelerator,
    console=Console(stderr=io.StringIO()), seed=0, batch_size=8, sampler="shuffle", workers=0, max_pixels=10**6,
)
kept = keeper.keep(rows[:30], rows[30:], augmentations=[], described=None, views=1)
[(features, _)] = kept.feed.training(0, [range(30)])
result = {"computed": kept.report["computed"], "features": features.flatten().tolist()}
Path(folder, f"kept-{accelerator.process_index}-{accelerator.num_processes}.json").write_text(json.dumps(result))
"""


def start(program: str, folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_two_processes_share_out_the_features_and_both_have_them_all(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(41):
        path = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
        values = {"index": number, "path": str(path), "label": "a", "target": 0, "split": "train", "group": "g"}
        rows.append({**values, "sha256": f"{number:064x}", "phash": "", "width": 20, "height": 20})
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    shared = {
        **alone,
        **{"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_WORLD_SIZE": "2"},
    }
    processes = [start(KEEPER, tmp_path, {**shared, "RANK": str(n), "LOCAL_RANK": str(n)}) for n in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    one, two = (json.loads((tmp_path / f"kept-{rank}-2.json").read_text()) for rank in range(2))
    assert one["computed"] + two["computed"] == 41
    assert abs(one["computed"] - two["computed"]) <= 2
    assert one["features"] == two["features"]
    process = start(KEEPER, tmp_path, alone)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    again = json.loads((tmp_path / "kept-0-1.json").read_text())
    assert again == {"computed": 0, "features": one["features"]}
