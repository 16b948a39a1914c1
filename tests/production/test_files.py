"""The files for production say what is true of this version: commands parse, versions fit, linters are content."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from roadwork_core.cli import _parse
from tests.exporters.test_without_torch import installed_by

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "examples" / "production"
SERVED = ("backbones", "heads", "policies", "serving", "tta")
#: What the GPU build of torch brings beside its CPU build.
GPU = ("cuda", "nvidia", "triton")
YAML = "{extends: default, rules: {line-length: {max: 120}, document-start: disable}}"


def containerfile() -> list[tuple[str, str]]:
    """Its instructions in order: name and the rest, with continued lines joined."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", (FOLDER / "Containerfile").read_text()))
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in text.splitlines() if line.strip()]


def of(instruction: str) -> list[str]:
    return [rest for name, rest in containerfile() if name == instruction]


def unit() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (FOLDER / "roadwork.service").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            found.setdefault(line.partition("=")[0], []).append(line.partition("=")[2])
    return found


def compose() -> Any:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]["serve"]


def served(arguments: list[str]) -> Any:
    """The options of `roadwork serve` with these arguments."""
    pytest.importorskip("roadwork_serving")
    return _parse(["serve", *arguments])[1]


def test_the_base_is_an_exact_version() -> None:
    (argument,) = of("ARG")
    assert re.fullmatch(r"PYTHON=python:3\.\d+\.\d+-slim-\w+", argument)
    assert of("FROM") == ["${PYTHON} AS build", "${PYTHON} AS serve"]


def test_it_runs_as_nobody_in_particular() -> None:
    names = [name for name, _ in containerfile()]
    assert of("USER") == ["10001:10001"]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert not [rest for rest in of("COPY") if "--chown" in rest], "nothing that it runs is its own to change"


def test_all_that_is_copied_is_there_and_within_sight_of_the_build() -> None:
    seen = (FOLDER / "Containerfile.dockerignore").read_text().splitlines()
    for rest in of("COPY"):
        sources = rest.split()[:-1]
        if sources[0].startswith("--from"):
            continue
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in seen, source


def test_the_wheels_that_it_installs_are_built_here() -> None:
    (run,) = (rest for rest in of("RUN") if "uv build" in rest)
    wheels = re.findall(r"/wheels/(\w+)-\*\.whl", run)
    assert wheels == ["roadwork", *(f"roadwork_{plugin}" for plugin in SERVED)]
    assert all((ROOT / "plugins" / plugin / "pyproject.toml").is_file() for plugin in SERVED)


def test_what_may_not_write_bytecode_finds_it() -> None:
    assert any("PYTHONDONTWRITEBYTECODE=1" in rest for rest in of("ENV"))
    (run,) = (rest for rest in of("RUN") if "uv pip install" in rest)
    assert "--compile-bytecode" in run


def test_every_distribution_in_it_has_one_exact_version_that_its_users_admit() -> None:
    (run,) = (rest for rest in of("RUN") if "uv pip install" in rest)
    named = [word for word in run.split() if word in ("onnx", "onnxruntime")]
    assert len(named) == 2
    wanted = [*(f"roadwork-{plugin}" for plugin in SERVED), *named]
    names = {name for distribution in wanted for name in installed_by(distribution)} | set(named)
    needed = {name for name in names if not name.startswith(("roadwork", *GPU))}
    lines = [line for line in (FOLDER / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = [Requirement(line) for line in lines]
    assert all(re.fullmatch(r"==[\w.]+", str(pin.specifier)) for pin in pins)
    assert {canonicalize_name(pin.name) for pin in pins} >= needed
    assert len({pin.name for pin in pins}) == len(pins)
    pinned: dict[str, str] = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}
    assert pinned["torch"] == version("torch").partition("+")[0], "write constraints.txt anew for another torch"


def test_its_command_is_one_that_serve_takes() -> None:
    import json

    assert json.loads(of("ENTRYPOINT")[0]) == ["roadwork", "serve"]
    options = served(json.loads(of("CMD")[0]))
    assert (options.host, options.port, options.watch) == ("0.0.0.0", 8000, True)
    assert of("EXPOSE") == ["8000"]
    (check,) = of("HEALTHCHECK")
    code = json.loads(check.partition("CMD ")[2])[2]
    compile(code, "healthcheck", "exec")
    assert "http://127.0.0.1:8000/healthz" in code


def test_compose_takes_rights_away_and_gives_the_server_time_to_end() -> None:
    service = compose()
    options = served(service["command"])
    assert str(options.bundle) == "/live/current"
    assert str(options.token_file) == "/run/secrets/token"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert all(volume["read_only"] for volume in service["volumes"])
    assert int(service["stop_grace_period"].removesuffix("s")) > options.drain + options.notice


def test_the_unit_starts_what_serve_takes_and_waits_for_its_end() -> None:
    found = unit()
    (command,) = found["ExecStart"]
    words = shlex.split(command)
    assert words[1] == "serve"
    options = served(words[2:])
    assert options.host == "127.0.0.1"
    assert int(found["TimeoutStopSec"][0]) > options.drain + options.notice
    assert found["DynamicUser"] == ["yes"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_understands_the_unit_and_finds_it_closed() -> None:
    def analyse(*words: str) -> subprocess.CompletedProcess[str]:
        command = ["systemd-analyze", *words, str(FOLDER / "roadwork.service")]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    said = analyse("verify").stderr.splitlines()
    assert [line for line in said if "roadwork.service" in line and "is not executable" not in line] == []
    exposure = re.search(r"exposure level for \S+ (\d+\.\d)", analyse("security", "--offline=true").stdout)
    if exposure is None:
        pytest.skip("this systemd analyses no files")
    assert float(exposure[1]) <= 1.5


@pytest.mark.parametrize(
    "command",
    [
        ["hadolint", str(FOLDER / "Containerfile")],
        ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(FOLDER / "compose.yaml")],
        ["check-jsonschema", "--builtin-schema", "vendor.github-workflows", str(FOLDER / "flywheel.yml")],
        ["yamllint", "--strict", "-d", YAML, str(FOLDER / "compose.yaml"), str(FOLDER / "flywheel.yml")],
    ],
    ids=lambda command: f"{command[0]} {Path(command[-1]).name}",
)
def test_linters_find_nothing(command: list[str]) -> None:
    path = f"{Path(sys.executable).parent}:{Path(shutil.which('true') or '/bin/true').parent}"
    program = shutil.which(command[0], path=path) or shutil.which(command[0])
    if program is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_job_of_the_workflow_needs_the_one_before_it_and_no_push_starts_it() -> None:
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load((FOLDER / "flywheel.yml").read_text())
    assert set(workflow["on"]) == {"schedule", "workflow_dispatch"}
    jobs = list(workflow["jobs"].items())
    assert [job.get("needs") for _, job in jobs] == [None, *(name for name, _ in jobs[:-1])]
    for _, job in jobs:
        assert "if" not in job, "always() and the like would let a failure pass"
        for step in job["steps"]:
            assert not step.get("continue-on-error")
            for command in re.findall(r"\broadwork (\w.*)", step["run"]):
                _parse(shlex.split(command))
