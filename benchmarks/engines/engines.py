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
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from subjects import Subject, subjects

from roadwork_core.evaluation.compare import Answers, compare

ENGINES = ("eager", "torch.export", "AOTInductor", "torch.compile", "ONNX Runtime", "ONNX int8", "ONNX int8_all")
COMPILED = ("AOTInductor", "torch.compile")
SUBJECTS = ("quickstart", "vit", "signs")
BEGIN, END = "<!-- measured -->", "<!-- end -->"
PACKAGES = ("torch", "onnxruntime", "transformers", "numpy")
#: An engine must be this much faster than eager on every bundle to become the default.
WORTH = 1.2
#: Those that could: they keep the guarantees and are made of data alone.
CANDIDATES = ("torch.compile", "ONNX Runtime")
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=SUBJECTS)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--seconds", type=float, default=1.5, help="for each figure of throughput and latency")
    parser.add_argument("--write", type=Path, metavar="PAGE", help=f"put the tables between {BEGIN} and {END} of it")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    before, start = os.getloadavg(), time.perf_counter()
    tables, rows = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for subject in subjects(Path(scratch), options.subjects):
            of_subject = [
                {"engine": engine, **measure(engine, subject, Path(scratch), options.seconds)}
                for engine in ENGINES
                if engine in options.engines
            ]
            tables.append(f"### {subject.name}\n\n{table(of_subject, subject)}")
            rows.append(of_subject)
    text = "\n\n".join([*tables, verdict(rows), conditions(before, options.seconds, time.perf_counter() - start)])
    if options.write is None:
        print(text)
        return
    page = options.write.read_text()
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    options.write.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}")
    print(f"wrote {options.write}", file=sys.stderr)


def measure(engine: str, subject: Subject, scratch: Path, seconds: float) -> Row:
    """Makes what the engine runs and starts it in two processes of its own: its figures, or why there are none."""
    print(f"{subject.name}: {engine}", file=sys.stderr)
    if engine in COMPILED and not (shutil.which("c++") or shutil.which("g++")):
        return {"refused": "there is no C++ compiler"}
    begun = time.perf_counter()
    try:
        artefact = prepare(engine, subject, scratch)
    except (RuntimeError, ValueError, subprocess.CalledProcessError) as error:
        return {"refused": " ".join(str(getattr(error, "stdout", None) or error).split())[:120]}
    made = time.perf_counter() - begun
    logits = scratch / f"{subject.name}-{engine}.npy"
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(scratch / f"cache-{subject.name}-{engine}")}
    words = [sys.executable, str(Path(__file__).with_name("one_engine.py")), engine]
    words += [str(part) for part in (subject.bundle, artefact, subject.rows)]
    try:
        first, found = start([*words, "--logits", str(logits), "--seconds", str(seconds)], cache)
        again, _ = start(words, cache)
    except ValueError as error:
        return {"refused": str(error)}
    return {"made": made, "first": first, "again": again, "size": size(artefact), "logits": logits, **found}


def prepare(engine: str, subject: Subject, scratch: Path) -> Path:
    """The file or folder that the engine runs."""
    target = scratch / f"{subject.name}-{engine.replace(' ', '-')}"
    if engine.startswith("ONNX"):
        words = ["export", str(subject.bundle), "--to", "onnx", "--out", str(target), "-q", "--json"]
        quantize = engine.rpartition(" ")[2]
        words += ["--set", f'quantize="{quantize}"', "--set", "agreement=0"] if "int8" in quantize else []
        done = subprocess.run(
            [sys.executable, "-m", "roadwork_core", *words], stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            raise ValueError(json.loads(done.stdout)["errors"][0]["message"])
        return target
    if engine in ("eager", "torch.compile"):
        return subject.bundle
    import torch

    from roadwork_core.bundle import load

    scorer = load(subject.bundle, device="cpu").runtime.scorer
    example = (torch.zeros(2, 3, *scorer.preprocessing.size),)
    with torch.no_grad():
        program = torch.export.export(
            scorer.model, example, dynamic_shapes=({0: torch.export.Dim("batch", min=1)},), strict=False
        )
        target = target.with_suffix(".pt2")
        if engine == "AOTInductor":
            torch._inductor.aoti_compile_and_package(program, package_path=str(target))
        else:
            torch.export.save(program, target)
    return target


def start(words: list[str], environment: Mapping[str, str]) -> tuple[float, Row]:
    """Seconds from the start of the process to its first answer, and what it prints in the end."""
    begun = time.perf_counter()
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}) as process:
        assert process.stdout is not None
        process.stdout.readline()
        elapsed = time.perf_counter() - begun
        rest = process.stdout.read()
    if process.returncode:
        raise ValueError(f"its process ended with {process.returncode}")
    return elapsed, json.loads(rest) if rest.strip() else {}


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
    base = next((row for row in rows if row["engine"] == "eager"), None)
    for row in rows:
        if "refused" in row:
            lines.append(f"| {row['engine']} |{' |' * 12} {row['refused']} |")
            continue
        ratios = ["", ""] if base is None else [f"{row[key] / base[key]:.2f}" for key in ("rate", "rate2")]
        cells = [
            *(f"{row['rate']:.1f}", ratios[0], f"{row['rate2']:.1f}", ratios[1]),
            *(f"{row['p50']:.1f}", f"{row['p99']:.1f}", f"{row['network']:.2f}"),
            *(f"{row['first']:.1f}", f"{row['again']:.1f}", f"{row['memory']:.0f}", f"{row['size']:.2f}"),
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


def verdict(tables: list[list[Row]]) -> str:
    """Whether any engine should take eager's place as the default, by the rule on the page."""
    kept = []
    for engine in CANDIDATES:
        pairs = [
            (row, rows[0])
            for rows in tables
            for row in rows
            if row["engine"] == engine and rows[0]["engine"] == "eager"
        ]
        if pairs and all("rate" in row and row["rate2"] >= WORTH * base["rate2"] for row, base in pairs):
            kept.append(engine)
    asked, found = " and ".join(CANDIDATES), ", ".join(kept) or "none"
    faster = f"Of {asked}, at least {WORTH} times eager on every bundle, with two workers: {found}."
    return f"**Verdict.** {faster} " + (
        "The default, eager, is what the table supports." if not kept else "The default is to be looked at again."
    )


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
