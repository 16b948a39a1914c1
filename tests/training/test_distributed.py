"""Two processes on shares of each batch reach what one process reaches on all of it, and judge each sample once."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from .toy import TensorFeed, make_loop, toy_model

ROOT = Path(__file__).parents[2]

WORKER = """
import json, sys
from pathlib import Path
import torch
from tests.training.toy import TensorFeed, make_loop, toy_model
torch.set_num_threads(1)
loop = make_loop(
    Path(sys.argv[1]), model=toy_model(norm=False, dropout=0), feed=TensorFeed(size=41, validation_size=29),
    accumulate=2, epochs=2, ema=0.8, clip_norm=0.1,
)
assert loop.accelerator.num_processes == 2
position = loop.run()
result = {
    "history": position.history,
    "head": loop.snapshot.model.head.weight.flatten().tolist(),
    "conv": loop.snapshot.model.backbone.conv.weight.flatten().tolist(),
}
Path(sys.argv[1], f"rank-{loop.accelerator.process_index}.json").write_text(json.dumps(result))
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
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
            [sys.executable, "-c", WORKER, str(tmp_path)],
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
    alone = make_loop(
        tmp_path / "alone",
        model=toy_model(norm=False, dropout=0),
        feed=TensorFeed(size=41, validation_size=29),
        accumulate=2,
        epochs=2,
        ema=0.8,
        clip_norm=0.1,
    )
    history = alone.run().history
    expected_weights = {
        "head": alone.snapshot.model.get_parameter("head.weight").flatten().tolist(),
        "conv": alone.snapshot.model.get_parameter("backbone.conv.weight").flatten().tolist(),
    }
    for found in ranks:
        for part, weights in expected_weights.items():
            assert found[part] == pytest.approx(weights, abs=1e-5), part
        for line, expected in zip(found["history"], history, strict=True):
            for key in ("train_loss", "nll", "auroc", "mcc"):
                assert line[key] == pytest.approx(expected[key], abs=1e-5)
