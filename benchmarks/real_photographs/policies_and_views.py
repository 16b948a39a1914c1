"""What each policy and each test-time augmentation buys on the real sign photographs: one training, all combinations.

The network is trained once by specs/signs.toml; each augmentation then scores, fits every policy and evaluates anew.
Prints the tables of docs/benchmarks/policies-and-views.md. Needs ../shared/data.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
POLICIES = {
    "threshold": '{ use = "threshold" }',
    "conformal": '{ use = "conformal", alpha = 0.1 }',
    "scrc": '{ use = "scrc", alpha = 0.1 }',
    "selective": '{ use = "selective_error", target_error = 0.1 }',
    "hybrid": '{ use = "hybrid", fast = "threshold", robust = "scrc" }',
}
VIEWS = {
    "none": '{ use = "none" }',
    "flip": '{ use = "flip" }',
    "five_crop": '{ use = "five_crop" }',
    "multiscale": '{ use = "multiscale" }',
    "grid": '{ use = "grid" }',
    "multiview": '{ use = "multiview" }',
}


def run(runs_dir: Path, tta: str) -> dict[str, Any]:
    """The evaluation of one test-time augmentation, and the seconds of its stage score."""
    settings = [f"tta={tta}", 'bundle.active="threshold"', 'bundle.fallback="threshold"']
    settings += [f"policy.{name}={table}" for name, table in POLICIES.items()]
    command = [sys.executable, "-m", "roadwork_core", "run", str(ROOT / "specs" / "signs.toml"), "--json"]
    command += ["--runs-dir", str(runs_dir), *(part for setting in settings for part in ("--set", setting))]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{tta}: exit code {done.returncode}\n{done.stdout}")
    folder = Path(json.loads(done.stdout)["run_dir"])
    metrics: dict[str, Any] = json.loads((folder / "evaluate" / "metrics.json").read_bytes())
    score = json.loads((folder / "score" / "manifest.json").read_bytes())
    return {
        "metrics": metrics,
        "views": score["metrics"]["views"],
        "score_seconds": score["seconds"],
        "seconds": time.perf_counter() - start,
    }


def cell(figure: Mapping[str, Any] | None) -> str:
    if figure is None or figure["value"] is None:
        return "n/a"
    if figure["low"] is None:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs-dir", type=Path, required=True)
    options = parser.parse_args()
    found = {name: run(options.runs_dir, table) for name, table in VIEWS.items()}
    print("| views | n | seconds to score | MCC | AUROC | NLL |")
    print("|:--|--:|--:|--:|--:|--:|")
    for name, one in found.items():
        test = one["metrics"]["test"]
        figures = " | ".join(cell(test[metric]) for metric in ("mcc", "auroc", "nll"))
        print(f"| `{name}` | {one['views']} | {one['score_seconds']:.0f} | {figures} |")
    for name in ("none", "multiview"):
        print(f"\n### Policies, views {name}\n")
        print("| policy | answers | of them wrong | sets that hold the truth | MCC of answers | MCC, must answer |")
        print("|:--|--:|--:|--:|--:|--:|")
        for policy, entry in found[name]["metrics"]["policies"].items():
            must = entry.get("must_answer", entry["metrics"])
            print(
                f"| `{policy}` | {cell(entry['coverage'])} | {cell(entry['selective_risk'])} |"
                f" {entry['sets']['coverage']:.3f} | {cell(entry['metrics']['mcc'])} | {cell(must['mcc'])} |"
            )


if __name__ == "__main__":
    main()
