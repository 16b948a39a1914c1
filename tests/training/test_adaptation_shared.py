"""Two processes that share the pictures of the stage adapt reach what one process reaches on all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from roadwork_core.stages import STAGES
from roadwork_core.training.batch_shares import BatchShares
from tests.prepared_run import Labelled, write_prepared

ROOT = Path(__file__).parents[2]
#: Carries out the stage for each objective; rank 0 of two writes. `stopped` is interrupted by one process alone.
WORKER = """
import json, sys
from pathlib import Path
import torch
from roadwork_core.plugins import Plugins
from roadwork_core.stages import adapt
from roadwork_core.training.adaptation import Adaptation
from tests.prepared_run import stage_context
torch.set_num_threads(1)
folder, prepared, plugins = Path(sys.argv[1]), Path(sys.argv[2]), Plugins.load()
rank = int(__import__("os").environ.get("RANK", "0"))
step = Adaptation._step

def stopping(self, views):
    step(self, views)
    if self.position.step == 3 and rank == 1:
        self._stop.received = 2

for name, spec in json.loads(Path(sys.argv[3]).read_text()).items():
    context = lambda: stage_context("adapt", prepared, plugins, folder / name, spec)
    if name == "stopped":
        Adaptation._step = stopping
        try:
            adapt.run(context())
        except KeyboardInterrupt as interrupt:
            assert "after 1 of 2 steps" in str(interrupt)
        else:
            raise AssertionError("it went on")
        Adaptation._step = step
    adapt.run(context())
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()
"""
#: Batch norm, an odd batch, so shares of unequal length, and a transformer with an adapter for the masked one.
SPEC = """
spec_version = 1
name = "toy"
seed = 5
[data]
use = "image_folder"
root = "."
workers = 0
[backbone]
{backbone}
[adapt]
objective = {objective}
adapter = {adapter}
optimizer = {{ use = "sgd", lr = 0.05, momentum = 0.9 }}
epochs = 2
batch_size = 13
[train]
precision = "fp32"
"""
CNN = 'use = "small_cnn"\nwidth = 8\nstages = 2\nimage_size = 16'


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)

    def pictures(size: int) -> Iterator[Labelled]:
        for number in range(size):
            coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
            yield coarse.resize((24, 20), Image.Resampling.BICUBIC), number % 2

    return write_prepared(tmp_path_factory.mktemp("run"), {"train": pictures(27)})


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    transformers = pytest.importorskip("transformers")
    vit = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=16, patch_size=4
    )
    transformers.AutoModel.from_config(config).save_pretrained(vit)
    full, dino = '{ use = "full" }', '{ use = "dino", prototypes = 32, hidden = 16, bottleneck = 8 }'
    vicreg = '{ use = "vicreg", width = 32, layers = 2 }'
    return {
        "vicreg": SPEC.format(backbone=CNN, objective=vicreg, adapter=full),
        "simsiam": SPEC.format(backbone=CNN, objective='{ use = "simsiam", width = 32, bottleneck = 8 }', adapter=full),
        "dino": SPEC.format(backbone=CNN, objective=dino, adapter='{ use = "last_blocks" }'),
        "mae": SPEC.format(
            backbone=f'use = "transformers"\nmodel = "{vit}"',
            objective='{ use = "mae", width = 16, head_width = 8 }',
            adapter='{ use = "lora", rank = 2, unfreeze_blocks = 1 }',
        ),
        "stopped": SPEC.format(backbone=CNN, objective=dino, adapter='{ use = "last_blocks" }'),
    }


@pytest.fixture(scope="module")
def weights(
    prepared: Path, specs: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, dict[str, np.ndarray]]]:
    """Adapted weights by objective, of two processes and of one."""
    import json

    folder = tmp_path_factory.mktemp("adapted")
    (folder / "specs.json").write_text(json.dumps(specs))
    (folder / "alone.json").write_text(json.dumps({name: spec for name, spec in specs.items() if name != "stopped"}))
    meeting = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _free_port()}
    common = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

    def start(where: str, specs: str, **more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WORKER, str(folder / where), str(prepared), str(folder / specs)]
        return subprocess.Popen(
            command, env={**common, **more}, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    pair = [start("two", "specs.json", RANK=rank, LOCAL_RANK=rank, **meeting) for rank in "01"]
    said = [process.communicate(timeout=400)[1] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], "\n".join(said)
    one = start("one", "alone.json")
    assert (one.communicate(timeout=400)[1], one.returncode)[1] == 0
    return tuple(  # type: ignore[return-value]
        {
            path.parent.parent.name: load_file(path)
            for path in sorted((folder / where).glob("*/adapt/weights.safetensors"))
        }
        for where in ("two", "one")
    )


def _free_port() -> str:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["vicreg", "simsiam", "dino", "mae"])
def test_two_processes_adapt_what_one_adapts(
    weights: tuple[dict[str, dict[str, np.ndarray]], dict[str, dict[str, np.ndarray]]], objective: str
) -> None:
    """Sums are taken in another order, so float32 weights agree to some 1e-6 and not to the bit."""
    two, one = (side[objective] for side in weights)
    assert two.keys() == one.keys()
    for name, tensor in one.items():
        np.testing.assert_allclose(two[name], tensor, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_a_stop_that_one_process_is_asked_for_stops_both_and_they_go_on_to_the_same_bytes(
    weights: tuple[dict[str, dict[str, np.ndarray]], dict[str, dict[str, np.ndarray]]],
) -> None:
    stopped, whole = weights[0]["stopped"], weights[0]["dino"]
    assert all(np.array_equal(stopped[name], tensor) for name, tensor in whole.items())


def test_all_processes_of_a_run_are_called_to_the_stage() -> None:
    assert [stage.name for stage in STAGES if stage.shared] == ["adapt", "train"]


@pytest.mark.parametrize(("rows", "world"), [(13, 2), (4, 4), (7, 3), (2, 3)])
def test_shares_are_every_row_once_in_order(rows: int, world: int) -> None:
    shares = [BatchShares(rank, world) for rank in range(world)]
    batch = list(range(rows))
    assert [row for share in shares for row in share.positions(batch)] == batch
    assert [row for share in shares for row in share.own(torch.arange(rows)).tolist()] == batch
    assert all(share.sizes(rows) == [len(other.positions(batch)) for other in shares] for share in shares)
