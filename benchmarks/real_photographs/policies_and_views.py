"""What each policy and each test-time augmentation buys on the real sign photographs: one training, all combinations.

The network is trained once by specs/signs.toml; each augmentation then scores, fits every policy and evaluates anew.
Prints the tables of docs/benchmarks/policies-and-views.md. Needs ../shared/data. Some minutes in all; what is done
already in --runs-dir is not done again, so it can be had in parts: `--views none`, then `--views none flip`, ...
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT / "specs" / "signs.toml"
PLAIN = "none"
POLICIES = {
    "threshold": '{ use = "threshold" }',
    "conformal": '{ use = "conformal", alpha = 0.1 }',
    "conformal_05": '{ use = "conformal", alpha = 0.05 }',
    "mondrian": '{ use = "conformal", alpha = 0.1, class_conditional = true }',
    "scrc": '{ use = "scrc", alpha = 0.1 }',
    "scrc_05": '{ use = "scrc", alpha = 0.05 }',
    "selective": '{ use = "selective_error", target_error = 0.1 }',
    "selective_05": '{ use = "selective_error", target_error = 0.05, start = 0.4 }',
    "hybrid": '{ use = "hybrid", fast = "threshold", robust = "scrc" }',
}
VIEWS = {
    PLAIN: '{ use = "none" }',
    "flip": '{ use = "flip" }',
    "multiscale": '{ use = "multiscale" }',
    "multiscale, learned": '{ use = "multiscale", fusion = "learned" }',
    "multiscale, attention": '{ use = "multiscale", fusion = "attention" }',
    "five_crop": '{ use = "five_crop" }',
    "grid": '{ use = "grid" }',
    "multiview": '{ use = "multiview" }',
}


def roadwork(*arguments: str) -> dict[str, Any]:
    """The JSON that a command prints."""
    command = [sys.executable, "-m", "roadwork_core", *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def run(runs_dir: Path, views: str) -> Path:
    """The run directory with this augmentation, made from that of the plain one, whose training it shares."""
    own, plain = (runs_dir / name.replace(", ", "-") for name in (views, PLAIN))
    if views != PLAIN and not own.exists():
        shutil.copytree(plain, own)
    settings = [f"tta={VIEWS[views]}", 'bundle.active="threshold"', 'bundle.fallback="threshold"']
    settings += [f"policy.{name}={table}" for name, table in POLICIES.items()]
    overrides = (part for setting in settings for part in ("--set", setting))
    return Path(roadwork("run", str(SPEC), "--runs-dir", str(own), *overrides)["run_dir"])


def read(folder: Path, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / name).read_bytes())
    return document


def cell(figure: Mapping[str, Any] | None, signed: bool = False) -> str:
    if figure is None or figure["value"] is None:
        return "n/a"
    style = "+.3f" if signed else ".3f"
    if figure["low"] is None:
        return f"{figure['value']:{style}}"
    return f"{figure['value']:{style}} [{figure['low']:{style}}, {figure['high']:{style}}]"


def views_table(runs: Mapping[str, Path]) -> None:
    print("| views | n | MCC | AUROC | NLL |")
    print("|:--|--:|--:|--:|--:|")
    for name, folder in runs.items():
        test, score = read(folder, "evaluate/metrics.json")["test"], read(folder, "score/manifest.json")["metrics"]
        figures = " | ".join(cell(test[metric]) for metric in ("mcc", "auroc", "nll"))
        print(f"| `{name}` | {score['views']} | {figures} |")
    print(f"\nLess those of `{PLAIN}`, paired:\n")
    print("| views | MCC | AUROC | NLL |")
    print("|:--|--:|--:|--:|")
    for name, folder in runs.items():
        if name == PLAIN:
            continue
        metrics = roadwork("runs", "compare", str(runs[PLAIN]), str(folder))["metrics"]
        figures = " | ".join(cell(metrics[metric]["difference"], signed=True) for metric in ("mcc", "auroc", "nll"))
        print(f"| `{name}` | {figures} |")


def policies_table(folder: Path) -> None:
    print("| policy | answers | of them wrong | sets hold the truth | MCC of answers | MCC, must answer |")
    print("|:--|--:|--:|--:|--:|--:|")
    for policy, entry in read(folder, "evaluate/metrics.json")["policies"].items():
        must = entry.get("must_answer", entry["metrics"])
        print(
            f"| `{policy}` | {cell(entry['coverage'])} | {cell(entry['selective_risk'])} |"
            f" {cell(entry['sets']['coverage'])} | {cell(entry['metrics']['mcc'])} | {cell(must['mcc'])} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs-dir", type=Path, required=True)
    parser.add_argument("--views", nargs="+", choices=list(VIEWS), default=list(VIEWS), metavar="VIEWS")
    options = parser.parse_args()
    runs = {name: run(options.runs_dir, name) for name in dict.fromkeys([PLAIN, *options.views])}
    views_table(runs)
    for name in runs:
        if name in (PLAIN, "multiscale"):
            print(f"\n### Policies, views {name}\n")
            policies_table(runs[name])


if __name__ == "__main__":
    main()
