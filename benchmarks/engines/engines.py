"""Every way to compute a bundle's network on a CPU, side by side, from file bytes to decision: see the page below.

    python benchmarks/engines/engines.py --write docs/benchmarks/engines.md

Says in the end how long it took. Needs the extra onnx, and a C++ compiler for torch.compile and AOTInductor.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from artefacts import EXPORTS, MADE
from processes import Budget, Refused
from subjects import Subject, subjects

from roadwork_core.evaluation.compare import Answers, compare

CARRIED = "ONNX in the bundle"
ENGINES = ("eager", CARRIED, *EXPORTS, "torch.export", "AOTInductor", "torch.compile")
COMPILED = ("AOTInductor", "torch.compile")
#: One group after the other is made and measured, should the time not suffice: the default and what could take its
#: place come first.
GROUPS = (
    ("eager", CARRIED, "ONNX export", "torch.compile"),
    ("ONNX int8", "torch.export"),
    ("AOTInductor", "ONNX int8_all"),
)
HERE = Path(__file__).parent
#: Shares of the time after which nothing is trained, and nothing is made, any more.
TRAINING, MAKING = 0.4, 0.8
SUBJECTS = ("quickstart", "vit", "signs")
BEGIN, END = "<!-- measured -->", "<!-- end -->"
PACKAGES = ("torch", "onnxruntime", "transformers", "numpy")
#: An engine must be this much faster than eager on every bundle to become the default.
WORTH = 1.2
#: Those that could: they keep the guarantees and are made of data alone.
CANDIDATES = (CARRIED, "torch.compile")
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=SUBJECTS)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--seconds", type=float, default=1.5, help="for each figure of throughput and latency")
    parser.add_argument("--limit", type=float, default=90.0, help="seconds for each process of an engine")
    parser.add_argument("--minutes", type=float, default=8.5, help="for all; what does not fit is a line that says so")
    parser.add_argument("--write", type=Path, metavar="PAGE", help=f"put the tables between {BEGIN} and {END} of it")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    before, budget = os.getloadavg(), Budget(options.limit, 60 * options.minutes)
    with tempfile.TemporaryDirectory() as scratch:
        chosen = subjects(Path(scratch), options.subjects, TRAINING * budget.total)
        tables = measure_all(chosen, options.engines, Path(scratch), options.seconds, budget)
        texts = [f"### {subject.name}\n\n{table(rows, subject)}" for subject, rows in zip(chosen, tables, strict=True)]
    left_out = [name for name in options.subjects if name not in [subject.name for subject in chosen]]
    texts += [f"### {name}\n\nNot measured: there is no bundle of it." for name in left_out]
    text = "\n\n".join([*texts, verdict(tables), conditions(before, options.seconds, budget.spent())])
    if options.write is None:
        print(text)
        return
    page = options.write.read_text()
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    options.write.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}")
    print(f"wrote {options.write}", file=sys.stderr)


def measure_all(
    chosen: Sequence[Subject], engines: Sequence[str], scratch: Path, seconds: float, budget: Budget
) -> list[list[Row]]:
    """For each subject a row for each engine, in the order of ENGINES; what matters most is measured first."""
    rows = {}
    for group in GROUPS:
        pairs = [(engine, subject) for engine in group if engine in engines for subject in chosen]
        # Made two at a time, as there are two cores; measured one at a time.
        with ThreadPoolExecutor(2) as pool:
            made = list(pool.map(lambda pair: prepare(*pair, scratch, budget), pairs))
        for (engine, subject), ready in zip(pairs, made, strict=True):
            print(f"{budget.spent():.0f} s: {subject.name}, {engine}", file=sys.stderr)
            figures = ready if "refused" in ready else measure(engine, subject, ready, scratch, seconds, budget)
            rows[engine, subject.name] = {"engine": engine, **figures}
    return [[rows[engine, subject.name] for engine in ENGINES if engine in engines] for subject in chosen]


def prepare(engine: str, subject: Subject, scratch: Path, budget: Budget) -> Row:
    """The file or folder that the engine runs as `artefact` and the seconds that it took, or why there is none."""
    if engine in COMPILED and not (shutil.which("c++") or shutil.which("g++")):
        return {"refused": "there is no C++ compiler"}
    if engine not in MADE:
        return {"artefact": subject.bundle, "made": 0.0}
    ending = "" if engine in EXPORTS else ".pt2"
    target = scratch / f"{subject.name}-{engine.replace(' ', '-').replace('.', '-')}{ending}"
    begun = time.perf_counter()
    try:
        budget.finish([sys.executable, HERE / "artefacts.py", engine, subject.bundle, target], share=MAKING)
    except Refused as error:
        return {"refused": str(error)}
    return {"artefact": target, "made": time.perf_counter() - begun}


def measure(engine: str, subject: Subject, ready: Row, scratch: Path, seconds: float, budget: Budget) -> Row:
    """Starts an engine in a process of its own, and in a second where the first may have left something for it: its
    figures, or why there are none."""
    logits = scratch / f"{subject.name}-{engine}.npy"
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(scratch / f"cache-{subject.name}-{engine}")}
    words = [sys.executable, HERE / "one_engine.py", engine, subject.bundle, ready["artefact"], subject.rows]
    try:
        begun = time.time()
        answered, found = budget.finish([*words, "--logits", logits, "--seconds", str(seconds)], cache)
        found["first"], begun = answered["answered"] - begun, time.time()
        if engine == "torch.compile":
            (answered,) = budget.finish(words, cache)
            found["again"] = answered["answered"] - begun
    except Refused as error:
        return {"refused": str(error)}
    beside = (
        size(subject.bundle / "model/model.onnx") if ready["artefact"] == subject.bundle and engine != CARRIED else 0.0
    )
    return {**ready, "size": size(ready["artefact"]) - beside, "logits": logits, **found}


def size(path: Path) -> float:
    """Megabytes of a file, or of a folder without its golden pictures."""
    files = (
        [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file() and "golden" not in one.parts]
    )
    return sum(one.stat().st_size for one in files) / 1e6


def table(rows: list[Row], subject: Subject) -> str:
    """One line for each engine; ratios and differences are to the first."""
    lines = [
        "| | answers/s, 1 worker | to eager | 2 workers | to eager | p50 ms | p99 ms | network ms | start s | again s"
        " | memory MB | on disk MB | made in s | MCC less eager's |",
        f"|:--|{'--:|' * 13}",
    ]
    base = next((row for row in rows if row["engine"] == "eager" and "rate" in row), None)
    for row in rows:
        if "refused" in row:
            lines.append(f"| {row['engine']} |{' |' * 12} {row['refused']} |")
            continue
        ratios = ["", ""] if base is None else [f"{row[key] / base[key]:.2f}" for key in ("rate", "rate2")]
        cells = [
            *(f"{row['rate']:.1f}", ratios[0], f"{row['rate2']:.1f}", ratios[1]),
            *(f"{row['p50']:.1f}", f"{row['p99']:.1f}", f"{row['network']:.2f}"),
            *(f"{row['first']:.1f}", f"{row['again']:.1f}" if "again" in row else ""),
            *(f"{row['memory']:.0f}", f"{row['size']:.2f}"),
            "" if row["made"] < 1 else f"{row['made']:.0f}",
            "" if base is None else cost(base["logits"], row["logits"], subject),
        ]
        lines.append(f"| {row['engine']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cost(first: Path, second: Path, subject: Subject) -> str:
    """The change in MCC of the active policy where it may not abstain, with its paired interval."""
    from roadwork_core.bundle.deciding import decider_of
    from roadwork_core.plugins import Plugins

    manifest = json.loads((subject.bundle / "bundle.json").read_text())
    documents = {
        name: json.loads((subject.bundle / f"policies/{name}.json").read_text()) for name in manifest["policies"]
    }
    labels, positive = manifest["labels"], manifest["labels"].index(manifest["positive"])
    decider = decider_of(
        documents,
        Plugins.load(),
        active=manifest["active"],
        fallback=manifest["fallback"],
        num_classes=len(labels),
        positive=positive,
    )
    rows = json.loads(subject.rows.read_text())
    answers = []
    for file in (first, second):
        decided = decider.decide(np.load(file), policy=manifest["active"], must_answer=True).decisions
        answers.append(
            Answers(
                keys=[path for path, _, _ in rows],
                targets=np.array([target for _, target, _ in rows]),
                groups=np.array([group for _, _, group in rows], dtype=object),
                answering=decided,
                answered=~decided.abstain,
            )
        )
    found = compare(*answers, positive=positive)["metrics"]["mcc"]
    if first == second:
        return f"(MCC {found['first']:.3f}, n = {len(rows)})"
    if np.array_equal(answers[0].answering.labels, answers[1].answering.labels):
        return "0, all decisions are the same"
    change = found["difference"]
    return f"{change['value']:+.4f} [{change['low']:+.4f}, {change['high']:+.4f}]"


def verdict(tables: Sequence[Sequence[Row]]) -> str:
    """Whether any engine should take eager's place as the default, by the rule on the page."""
    kept, unknown = [], []
    for engine in CANDIDATES:
        measured = [{row["engine"]: row["rate2"] for row in rows if "rate2" in row} for rows in tables]
        ratios = [rates[engine] / rates["eager"] for rates in measured if engine in rates and "eager" in rates]
        if any(ratio < WORTH for ratio in ratios):
            continue
        (kept if ratios and len(ratios) == len(tables) else unknown).append(engine)
    asked, found = " and ".join(CANDIDATES), ", ".join(kept) or "none"
    text = f"**Verdict.** Of {asked}, at least {WORTH} times eager on every bundle, with two workers: {found}."
    if unknown:
        text += f" Undecided, because it was not measured on every bundle: {', '.join(unknown)}."
    if CARRIED in unknown:
        return text
    supports = "is" if CARRIED in kept else "is not"
    return f"{text} The default, {CARRIED}, {supports} what the table supports."


def conditions(before: tuple[float, float, float], seconds: float, took: float) -> str:
    """Date, machine, load and versions."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    load = [f"{value:.1f}" for value in (before[0], os.getloadavg()[0])]
    busy = before[0] > 1
    return (
        f"Measured {datetime.datetime.now(datetime.UTC):%Y-%m-%d} in {took / 60:.1f} minutes, {seconds:g} s a figure;"
        f" {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}. Load"
        f" {load[0]} before and {load[1]} after"
        + (": **the machine was busy**, so ratios below two tell nothing." if busy else ".")
    )


if __name__ == "__main__":
    main()
