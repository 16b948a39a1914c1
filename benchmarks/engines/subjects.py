"""What the engines are measured on: three bundles, each made anew, with a labelled set that nothing was fitted on."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from attrs import frozen
from processes import Refused, finish

from roadwork_core.console import Console
from roadwork_core.evaluation.labelled_set import dataset_for, read_labelled
from roadwork_core.plugins import Plugins

ROOT = Path(__file__).parents[2]
SIGNS = ROOT.parent / "shared" / "data" / "gtsrb_signs" / "manifest.csv"
#: Another seed than the quickstart's, so that these scenes are new to its bundle.
SEED = 2027
RENDERED = ("n=300", "width=128", "height=96", "positive_fraction=0.5", "frames_per_sequence=2")
SMALL = ("data.n=1000", "train.epochs=6", "evaluate.bootstrap=200", "policy.threshold.bootstrap=100")


@frozen
class Subject:
    """A bundle and the file that lists the pictures of its labelled set: path, target, group each."""

    name: str
    bundle: Path
    rows: Path


def subjects(work: Path, wanted: Sequence[str], limit: float) -> list[Subject]:
    """Trains a bundle for each wanted name: `quickstart`, `vit`, and `signs` where its photographs are there.

    What is not trained when `limit` seconds are over, or fails, is left out.
    """
    if "signs" in wanted and not SIGNS.is_file():
        print("signs: left out, its photographs are not beside the project", file=sys.stderr)
        wanted = [name for name in wanted if name != "signs"]
    end = time.monotonic() + limit
    with ThreadPoolExecutor(2) as pool:
        bundles = list(pool.map(lambda name: _train(name, work, end), wanted))
    trained = [(name, bundle) for name, bundle in zip(wanted, bundles, strict=True) if bundle is not None]
    return [Subject(name, bundle, _labelled(name, bundle, work)) for name, bundle in trained]


def _train(name: str, work: Path, end: float) -> Path | None:
    spec = ROOT / "specs" / ("signs.toml" if name == "signs" else "quickstart.toml")
    settings = ["train.epochs=2", "evaluate.bootstrap=200"] if name == "signs" else list(SMALL)
    if name == "vit":
        backbone = f'{{ use = "transformers", model = "{_vit(work)}", pretrained = false }}'
        settings += [f"backbone={backbone}", "optimizer.lr=5e-4"]
    words = [sys.executable, "-m", "roadwork_core", "run", str(spec), "--runs-dir", str(work / name), "--json"]
    words += [part for setting in settings for part in ("--set", setting)]
    try:
        *_, told = finish(words, max(1.0, end - time.monotonic()))
    except Refused as error:
        print(f"{name}: left out, its training: {error}", file=sys.stderr)
        return None
    return Path(told["bundle_dir"])


def _vit(work: Path) -> Path:
    """A checkpoint folder of a small vision transformer without weights: six blocks, 192 wide, 64 patches."""
    from transformers import ViTConfig

    config = ViTConfig(
        hidden_size=192,
        num_hidden_layers=6,
        num_attention_heads=3,
        intermediate_size=768,
        image_size=64,
        patch_size=8,
    )
    config.save_pretrained(work / "checkpoint")
    return work / "checkpoint"


def _labelled(name: str, bundle: Path, work: Path) -> Path:
    plugins = Plugins.load()
    where, settings, splits = (str(SIGNS), (), ("test",)) if name == "signs" else ("synthetic_roadwork", RENDERED, ())
    manifest = json.loads((bundle / "bundle.json").read_text())
    found = read_labelled(
        dataset_for(where, settings, plugins),
        name,
        manifest["labels"],
        plugins,
        Console(verbosity=-1),
        cache_dir=work / "labelled",
        splits=splits,
        max_pixels=manifest["signature"]["input"]["max_pixels"],
        seed=SEED,
    )
    file = work / f"{name}.json"
    file.write_text(json.dumps([[row.path, row.target, row.group] for row in found.rows]))
    return file
