"""The extra `onnx` brings all that an ONNX export needs to decide, and nothing of torch."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

from roadwork_core.cli import main
from roadwork_core.extras import how_to_install

from .bundles import make_bundle, smooth_pictures

for name in ("onnx", "onnxruntime", "onnxscript", "roadwork_backbones", "roadwork_tta"):
    pytest.importorskip(name)

#: In a process of its own: a module from a distribution that is not listed cannot be imported.
ONLY = """
import json, sys
allowed = set(json.loads(sys.argv.pop(1)))
class Only:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Only())
from roadwork_core.cli import main
sys.exit(main(sys.argv[1:]))
"""


def installed_by(requirement: str) -> set[str]:
    """The distributions that pip installs for a requirement, read from the metadata of those that are here."""
    found: set[tuple[str, str]] = set()
    pending = [Requirement(requirement)]
    while pending:
        asked = pending.pop()
        for extra in ("", *asked.extras):
            key = (canonicalize_name(asked.name), extra)
            if key in found:
                continue
            found.add(key)
            for text in distribution(asked.name).requires or []:
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    pending.append(needed)
    return {name for name, _ in found}


def test_nothing_of_torch_is_installed() -> None:
    names = installed_by("roadwork[onnx]")
    assert {"onnxruntime", "roadwork-exporters", "roadwork-policies", "roadwork-tta", "numpy"} <= names
    assert not names & {"torch", "torchvision", "accelerate", "transformers"}
    assert not {name for name in names if name.startswith("nvidia")}


@pytest.mark.parametrize("plugin", ["backbones", "heads", "losses", "schedulers", "serving"])
def test_a_plugin_that_computes_with_torch_brings_it(plugin: str) -> None:
    assert "torch" in installed_by(f"roadwork-{plugin}")


def test_what_is_installed_is_enough_to_decide(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, tta={"use": "flip"})
    assert main(["export", str(bundle), "--to", "onnx", "--out", str(tmp_path / "out")]) == 0
    (tmp_path / "pictures").mkdir()
    Image.fromarray(smooth_pictures(1, 40, 50)[0]).save(tmp_path / "pictures/one.jpg")
    names = installed_by("roadwork[onnx]")
    modules = [
        module
        for module, owners in packages_distributions().items()
        if names & {canonicalize_name(owner) for owner in owners}
    ]
    # Editable installs have no list of their files.
    modules += ["roadwork_core", "roadwork_exporters", "roadwork_policies", "roadwork_tta"]
    command = [sys.executable, "-c", ONLY, json.dumps(modules), "predict-onnx", str(tmp_path / "out")]
    done = subprocess.run([*command, str(tmp_path / "pictures"), "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["label"] in ("no_roadwork", "roadwork", None)


def test_what_needs_torch_says_how_to_get_it(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    blocked = ONLY.replace("top not in allowed and top not in sys.stdlib_module_names", 'top == "torch"')
    done = subprocess.run(
        [sys.executable, "-c", blocked, "[]", "predict", str(bundle), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"error: torch is not installed ({how_to_install('torch')})"
