"""`train.compile`: a compiled model trains to what the same model trains to without it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from roadwork_core.kinds import OptimizerContext
from roadwork_core.training.loop import Loop

from .toy import TensorFeed, make_loop, toy_model

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="torch.compile on a CPU needs a C++ compiler"
)


@pytest.fixture(autouse=True)
def fresh_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    # Worth their minute in a process that compiles much, not for two small graphs.
    monkeypatch.setattr(torch._inductor.config, "cpp_cache_precompile_headers", False)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def sgd(context: OptimizerContext) -> torch.optim.Optimizer:
    # Adam would make full steps of what is left by rounding of gradients that are zero.
    return torch.optim.SGD(context.param_groups(0.1), momentum=0.9)


def trained(folder: Path, *, compiled: bool) -> Loop:
    # One batch size, so that two graphs are compiled, to train and to validate; no dropout, whose draws differ.
    feed = TensorFeed(size=21, validation_size=14)
    model = toy_model(dropout=0)
    loop = make_loop(folder, model=model, feed=feed, optimizer=sgd, epochs=2, batch_size=7, ema=0.5, clip_norm=1.0)
    if compiled:
        loop.forward = torch.compile(loop.snapshot.model)
    loop.run()
    return loop


@needs_compiler
@pytest.mark.slow
def test_compiled_and_eager_training_agree(tmp_path: Path) -> None:
    eager, compiled = trained(tmp_path / "eager", compiled=False), trained(tmp_path / "compiled", compiled=True)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0, "nothing was compiled"
    alike = compiled.snapshot.model.state_dict()
    for name, tensor in eager.snapshot.model.state_dict().items():
        # Kernels are fused, so float32 rounds elsewhere.
        torch.testing.assert_close(alike[name], tensor, rtol=1e-4, atol=1e-5, msg=name)
    for line, other in zip(compiled.position.history, eager.position.history, strict=True):
        for key in ("train_loss", "nll", "auroc"):
            assert line[key] == pytest.approx(other[key], abs=1e-5), key
