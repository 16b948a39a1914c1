"""`roadwork run` in two processes: the run of one process, one set of files, and one end when a process fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

ROOT = Path(__file__).parents[2]
#: BatchNorm, accumulation, averaged weights, a last batch that is not full and shares of unequal length.
SPEC = """
spec_version = 1
name = "toy"
seed = 5
[data]
use = "image_folder"
root = "${spec_dir}/pictures"
workers = 0
[[augment]]
use = "horizontal_flip"
[backbone]
use = "small_cnn"
width = 8
stages = 2
image_size = 16
[head]
use = "linear"
[optimizer]
use = "sgd"
lr = 0.05
momentum = 0.9
[train]
epochs = 2
batch_size = 13
accumulate = 2
clip_norm = 1.0
ema = 0.5
precision = "fp32"
select_by = "nll"
[policy.threshold]
use = "threshold"
[evaluate]
bootstrap = 100
[bundle]
license = "MIT"
"""
Command = list[str]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spec")
    rng = np.random.default_rng(0)
    for number in range(120):
        pixels = rng.integers(0, 160, (24, 24, 3), dtype=np.uint8)
        pixels[4:14, 4:14] += np.uint8(70 * (number % 2))
        path = folder / "pictures" / ("clear", "roadwork")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    path = folder / "spec.toml"
    path.write_text(SPEC)
    return path


def roadwork(spec: Path, runs: Path, *more: str) -> Command:
    return [sys.executable, "-m", "roadwork_core", "run", str(spec), "--runs-dir", str(runs), "--json", *more]


def run(command: Command, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env={**ENVIRONMENT, **environment}, capture_output=True, text=True, timeout=400, check=False
    )


def result_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def history(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "train" / "history.jsonl").read_text().splitlines()]


def assert_same_training(run_dir: Path, expected: Path) -> None:
    """Sums are taken in another order, so float32 weights agree to some 1e-6 and not to the bit."""
    weights, alike = (load_file(path / "train" / "weights.safetensors") for path in (run_dir, expected))
    assert weights.keys() == alike.keys()
    for name, tensor in weights.items():
        np.testing.assert_allclose(tensor, alike[name], rtol=1e-4, atol=1e-5, err_msg=name)
    for line, other in zip(history(run_dir), history(expected), strict=True):
        for key in ("train_loss", "nll", "auroc", "mcc", "accuracy"):
            assert line[key] == pytest.approx(other[key], abs=1e-5), key


@pytest.fixture(scope="module")
def alone(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(result_of(run(roadwork(spec, tmp_path_factory.mktemp("alone"))))["run_dir"])


@pytest.fixture(scope="module")
def together(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mapping[str, Any], str]:
    done = run(roadwork(spec, tmp_path_factory.mktemp("together"), "--processes", "2"))
    result = result_of(done)
    return Path(result["run_dir"]), result, done.stderr


@pytest.mark.slow
def test_two_processes_train_what_one_trains(together: tuple[Path, Mapping[str, Any], str], alone: Path) -> None:
    run_dir, result, said = together
    assert_same_training(run_dir, alone)
    assert result["status"] == "ok"
    assert [stage["status"] for stage in result["stages"]] == ["ran"] * 6
    # Each message once: one process speaks.
    assert said.count("train: done") == said.count("epoch 2/2") == said.count("prepare: done") == 1


@pytest.mark.slow
def test_two_processes_train_a_head_that_pools_tokens(spec: Path, tmp_path: Path) -> None:
    """SigLIP's own pooling is then not called: processes must not wait for its gradients."""
    transformers = pytest.importorskip("transformers")
    vit = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.SiglipVisionConfig(**vit, image_size=16, patch_size=8).save_pretrained(tmp_path / "siglip")
    backbone = f'use = "transformers"\nmodel = "{tmp_path / "siglip"}"\npretrained = false'
    text = SPEC.replace('use = "small_cnn"\nwidth = 8\nstages = 2', backbone).replace("epochs = 2", "epochs = 1")
    pooling = tmp_path / "spec.toml"
    pooling.write_text(
        text.replace('use = "linear"', 'use = "attention_pool"').replace("${spec_dir}", str(spec.parent))
    )
    result = result_of(run(roadwork(pooling, tmp_path / "runs", "--processes", "2")))
    assert [stage["status"] for stage in result["stages"]] == ["ran"] * 6


@pytest.mark.slow
def test_two_processes_write_one_set_of_files(together: tuple[Path, Mapping[str, Any], str], alone: Path) -> None:
    run_dir, _, _ = together
    assert files(run_dir) == files(alone)
    document = json.loads((run_dir / "run.json").read_text())
    assert document["result"]["status"] == "ok"


@pytest.mark.slow
def test_the_stages_of_two_processes_are_up_to_date_for_one(
    together: tuple[Path, Mapping[str, Any], str], spec: Path
) -> None:
    result = result_of(run(roadwork(spec, together[0].parent)))
    assert {stage["status"] for stage in result["stages"]} == {"skipped"}


@pytest.mark.slow
def test_accelerate_launch_leads_to_the_same(spec: Path, alone: Path, tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    options = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    done = run([*launcher, *options, *roadwork(spec, tmp_path)[1:]])
    assert_same_training(Path(result_of(done)["run_dir"]), alone)


class Together:
    """A run in two processes whose training takes long, to interfere with."""

    def __init__(self, spec: Path, runs: Path) -> None:
        self.runs = runs
        self.process = subprocess.Popen(
            roadwork(spec, runs, "--processes", "2", "--set", "train.epochs=400", "--set", "train.ema=0.9"),
            cwd=ROOT,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.heard: list[str] = []

    def hear(self, word: str) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.heard.append(line)
            if word in line:
                return
        raise AssertionError("".join(self.heard))

    def members(self) -> dict[int, int]:
        """Process id by rank."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                status = (entry / "status").read_text()
                environment = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if f"PPid:\t{self.process.pid}\n" in status:
                ranks = [int(item[5:]) for item in environment if item.startswith(b"RANK=")]
                if ranks:
                    found[ranks[0]] = int(entry.name)
        return found

    def end(self) -> tuple[int, dict[str, Any] | None, list[str]]:
        """(exit code, JSON document, lines of stderr that say error)."""
        out, err = self.process.communicate(timeout=200)
        lines = [*self.heard, *err.splitlines()]
        document = json.loads(out) if out else None
        return self.process.returncode, document, [line for line in lines if "error" in line.lower()]


def is_gone(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="process ids are found through /proc")


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_when_one_is_killed_all_end_with_one_line_and_the_run_goes_on(rank: int, spec: Path, tmp_path: Path) -> None:
    whole = Together(spec, tmp_path)
    whole.hear("epoch 2/")
    members = whole.members()
    assert members.keys() == {0, 1}
    os.kill(members[rank], signal.SIGKILL)
    code, document, errors = whole.end()
    assert code == 1
    assert document is not None
    assert document["exit_code"] == 1
    [error] = errors
    assert f"process {rank + 1} of 2 was killed by SIGKILL" in error
    assert all(is_gone(pid) for pid in members.values())
    assert not (tmp_path / "toy" / "train").exists()
    again = run(roadwork(spec, tmp_path, "--set", "train.epochs=400", "--set", "train.ema=0.9", "--dry-run"))
    assert result_of(again)["stages"][1] == {"name": "train", "status": "pending", "seconds": 0.0}


@needs_proc
@pytest.mark.slow
def test_ctrl_c_ends_all_with_a_checkpoint_and_one_line(spec: Path, tmp_path: Path) -> None:
    whole = Together(spec, tmp_path)
    whole.hear("epoch 2/")
    members = whole.members()
    whole.process.send_signal(signal.SIGINT)
    code, document, errors = whole.end()
    assert (code, document) == (130, None)
    [error] = errors
    assert "goes on from here" in error
    assert all(is_gone(pid) for pid in members.values())
    assert (tmp_path / "toy" / ".train.scratch" / "checkpoint.safetensors").is_file()
    assert json.loads((tmp_path / "toy" / "run.json").read_text())["result"]["status"] == "interrupted"


@needs_proc
@pytest.mark.slow
def test_the_processes_end_when_the_command_that_started_them_is_killed(spec: Path, tmp_path: Path) -> None:
    whole = Together(spec, tmp_path)
    whole.hear("epoch 2/")
    members = whole.members()
    whole.process.kill()
    until = time.monotonic() + 30
    while time.monotonic() < until and not all(is_gone(pid) for pid in members.values()):
        time.sleep(0.1)
    assert all(is_gone(pid) for pid in members.values())
    whole.end()


def stop_at(word: str, command: Command) -> int:
    """Starts a run and ends it with SIGTERM when it says `word`; returns the exit code."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if word in line:
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=200)
    return process.returncode


@pytest.mark.slow
def test_a_run_of_two_that_was_interrupted_ends_as_one_that_was_not(spec: Path, tmp_path: Path) -> None:
    long = ["--set", "train.epochs=40", "--processes", "2"]
    stop_at("train: done", roadwork(spec, tmp_path / "whole", *long))
    assert stop_at("epoch 2/", roadwork(spec, tmp_path / "stopped", *long)) == 130
    assert not (tmp_path / "stopped" / "toy" / "train").exists()
    stop_at("train: done", roadwork(spec, tmp_path / "stopped", *long))
    first, second = (
        (tmp_path / name / "toy" / "train" / "weights.safetensors").read_bytes() for name in ("whole", "stopped")
    )
    assert first == second


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_said_once_with_exit_code_3(spec: Path, tmp_path: Path) -> None:
    broken = ["--set", "optimizer.lr=1e30", "--unset", "train.clip_norm", "--set", "train.epochs=5"]
    done = run(roadwork(spec, tmp_path, "--processes", "2", *broken))
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("error") == 1
    assert json.loads(done.stdout)["exit_code"] == 3
    assert not (tmp_path / "toy" / "train").exists()


@pytest.mark.slow
def test_a_second_run_is_refused_once(spec: Path, tmp_path: Path) -> None:
    from roadwork_core.runs import Run, RunLock

    with RunLock(Run(name="toy", path=tmp_path / "toy")):
        done = run(roadwork(spec, tmp_path, "--processes", "2"))
    assert done.returncode == 1
    assert done.stderr.count("error") == 1
    assert "is working on this run" in done.stderr


@pytest.mark.parametrize(
    ("more", "environment", "said"),
    [
        (["--processes", "0"], {}, "at least one process"),
        (["--shard"], {}, "one process has all weights"),
        (["--processes", "2"], {"WORLD_SIZE": "2", "RANK": "0"}, "a launcher has started this process"),
    ],
)
def test_a_number_of_processes_that_cannot_be_is_wrong_usage(
    more: list[str], environment: dict[str, str], said: str, spec: Path, tmp_path: Path
) -> None:
    done = run(roadwork(spec, tmp_path, *more), **environment)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.slow
def test_a_way_to_divide_the_model_that_a_run_does_not_know_is_refused_once(spec: Path, tmp_path: Path) -> None:
    done = run(roadwork(spec, tmp_path, "--processes", "2"), ACCELERATE_USE_DEEPSPEED="true")
    assert done.returncode == 2
    assert done.stderr.count("error: DEEPSPEED divides the model") == done.stderr.count("error") == 1
    assert not (tmp_path / "toy").exists()


@pytest.mark.slow
def test_a_share_of_the_weights_in_each_process_leads_to_the_same(spec: Path, alone: Path, tmp_path: Path) -> None:
    """FSDP2 as the documented file asks for it; BatchNorm, averaged weights, accumulation and clipping included."""
    page = (ROOT / "docs/how-to/several-processes.md").read_text()
    config = tmp_path / "accelerate.yaml"
    config.write_text(page.partition("```yaml\n")[2].partition("```")[0])
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    options = ["--num_processes", "2", "--main_process_port", "0"]
    done = run([*launcher, *options, *roadwork(spec, tmp_path)[1:]])
    run_dir = Path(result_of(done)["run_dir"])
    assert "one share in each of 2 processes" in done.stderr
    assert_same_training(run_dir, alone)
    assert files(run_dir) == files(alone)


def test_a_wrong_spec_is_said_once_before_any_process_starts(spec: Path, tmp_path: Path) -> None:
    done = run(roadwork(spec, tmp_path, "--processes", "2", "--set", "train.epoch=3"))
    assert done.returncode == 2
    assert done.stderr.count("error") == 1
