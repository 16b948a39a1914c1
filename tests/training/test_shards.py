"""Every adapter, and every optimizer that can, steps shares of the weights as it steps them whole."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ADAPTERS = ("bitfit", "dora", "dora_tau", "doran", "full", "ia3", "last_blocks", "lora")
OPTIMIZERS = ("lion", "muon", "nadam", "radam", "sam", "sgd")

WORKER = """
import json, sys
from pathlib import Path
import torch
from roadwork_core.kinds import AdapterContext, BackboneContext, OptimizerContext
from roadwork_core.model import Classifier
from roadwork_core.plugins import Plugins
from roadwork_core.spec import resolve_component
from roadwork_core.spec.model import LrScale
from roadwork_core.training.groups import parameter_groups
from roadwork_core.training.precision import make_accelerator
from roadwork_core.training.second_look import Ascending
from roadwork_core.training.shards import explained, shard, whole

torch.set_num_threads(1)
folder, plugins = Path(sys.argv[1]), Plugins.load()
accelerator, _ = make_accelerator("fp32")
rank, world = accelerator.process_index, accelerator.num_processes
images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
targets = torch.arange(8) % 2

def trained(adapter, optimizer, sharded, checkpointing=False):
    torch.manual_seed(0)
    table = {"use": "transformers", "model": str(folder / "dinov2"), "gradient_checkpointing": checkpointing}
    backbone = resolve_component("backbone", table, plugins).build(BackboneContext())
    adapted = resolve_component("adapter", {"use": adapter}, plugins).build(AdapterContext(backbone=backbone, seed=1))
    torch.manual_seed(0)
    model = Classifier(adapted.module, torch.nn.Linear(backbone.feature_dim, 2))
    if sharded:
        shard(model, adapted.module.blocks(), accelerator.device)
    groups = parameter_groups(adapted.module, model.head, (), LrScale())
    built = resolve_component("optimizer", {"use": optimizer}, plugins).build(OptimizerContext(groups=groups))
    model.train()
    part = slice(rank, None, world) if sharded else slice(None)
    def backward():
        torch.nn.functional.cross_entropy(model(images[part]), targets[part]).backward()
    for _ in range(2):
        backward()
        if isinstance(built, Ascending):
            built.ascend()
            built.zero_grad()
            backward()
            built.descend()
        built.step()
        built.zero_grad()
    return {name: whole(value.detach()).clone() for name, value in model.named_parameters() if value.requires_grad}

try:
    trained("full", "adafactor", True)
except RuntimeError as error:
    said = explained(error)
    assert said is not None and "adamw" in said.hint

found = {}
cases = [(adapter, "adamw") for adapter in sys.argv[2].split(",")]
cases += [("full", optimizer) for optimizer in sys.argv[3].split(",")]
for adapter, optimizer in cases:
    alone = trained(adapter, optimizer, False)
    shared = trained(adapter, optimizer, True, checkpointing=adapter == "dora")
    assert alone.keys() == shared.keys(), adapter
    far = torch.cat([(alone[name] - shared[name]).abs().flatten() for name in alone])
    found[f"{adapter} by {optimizer}"] = float(far.mean())
if accelerator.is_main_process:
    (folder / "found.json").write_text(json.dumps(found))
torch.distributed.destroy_process_group()
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.slow
def test_shares_of_the_weights_step_as_whole_ones_do(tmp_path: Path) -> None:
    import torch
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, mlp_ratio=2, image_size=32, patch_size=8
    )
    Dinov2Model(config).save_pretrained(tmp_path / "dinov2")
    environment = {
        **os.environ,
        **{"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "LOCAL_WORLD_SIZE": "2"},
        **{"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path), ",".join(ADAPTERS), ",".join(OPTIMIZERS)],
            cwd=ROOT,
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, said = process.communicate(timeout=400)
        assert process.returncode == 0, said[-2000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found) == len(ADAPTERS) + len(OPTIMIZERS)
    # A step is 1e-4 or longer. The mean, since Lion and Adam follow the sign of a gradient that is nothing but rounding
    # (that of a key's bias) as far as any other.
    assert {name: far for name, far in found.items() if far > 5e-6} == {}
