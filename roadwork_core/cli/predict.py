"""`roadwork predict`: decisions on pictures, folders and patterns, streamed in a stable order."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from roadwork_core.backends import add_option

if TYPE_CHECKING:
    from roadwork_core.bundle import Prediction, Predictor, Source
    from roadwork_core.bundle.ray_predictor import RayPredictor
    from roadwork_core.console import Console

#: Pictures that are read while as many are computed.
HELD = 64


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder")
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="a picture, a folder (the pictures below it), a quoted pattern, or - for paths on standard input",
    )
    chooser = parser.add_mutually_exclusive_group()
    chooser.add_argument("--mode", choices=("fast", "accurate", "hybrid"), help="who decides, by deployment mode")
    chooser.add_argument("--policy", metavar="NAME", help="who decides, by the policy's name")
    parser.add_argument("--must-answer", action="store_true", help="never abstain: the fallback policy answers")
    parser.add_argument(
        "--batch-size",
        type=_positive,
        metavar="N",
        help="views that go through the model together (default: each picture alone on a CPU, 64 elsewhere)",
    )
    parser.add_argument(
        "--threads", type=_positive, default=1, metavar="N", help="of each picture computed (default: 1)"
    )
    parser.add_argument(
        "--workers",
        type=_positive,
        metavar="N",
        help="pictures computed at once (default: cores / threads; 1 an actor)",
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="who computes: this process, or actors on the Ray cluster at RAY_ADDRESS (default: local)",
    )
    parser.add_argument(
        "--actors", type=_positive, metavar="N", help="ray: how many actors (default: as many as the cluster holds)"
    )
    parser.add_argument("--device", default="auto", metavar="DEVICE", help="cpu, cuda, ... (default: a GPU if any)")
    add_option(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object per picture and line")
    form.add_argument("--csv", action="store_true", help="print a table as CSV")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write a .jsonl, .csv or .parquet file; the same command goes on where a killed one ended",
    )


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:10]) > 0 and len(text) < 10):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def handle(options: argparse.Namespace, console: Console) -> int:
    from roadwork_core.bundle import find_images
    from roadwork_core.errors import ExitCode

    with _predictor(options) as predictor:
        sources = find_images(options.paths, sys.stdin)

        def stream(pending: Iterable[Source]) -> Iterator[Prediction]:
            return predictor.stream(
                pending,
                mode=options.mode,
                policy=options.policy,
                must_answer=options.must_answer,
                batch_size=options.batch_size or HELD,
            )

        if options.out is not None:
            total, failed = _to_file(options, predictor, sources, stream, console)
        else:
            write = _writer(options, predictor, console)
            failed = total = 0
            for prediction in stream(sources):
                total += 1
                failed += prediction.error is not None
                write(prediction)
    for cause, count in predictor.fallbacks.items():
        console.warn(f"the fallback policy answered {count} times: {cause}")
    if failed:
        console.warn(f"{failed} of {total} could not be predicted")
    return ExitCode.FAILED if failed else ExitCode.OK


@contextmanager
def _predictor(options: argparse.Namespace) -> Iterator[Predictor | RayPredictor]:
    from roadwork_core.errors import UsageError

    if options.engine == "ray":
        from roadwork_core.bundle.ray_predictor import ray_predictor

        with ray_predictor(
            options.bundle,
            device=options.device,
            backend=options.backend,
            batch_size=options.batch_size,
            workers=options.workers or 1,
            threads=options.threads,
            actors=options.actors,
        ) as predictor:
            yield predictor
        return
    if options.actors is not None:
        raise UsageError("--actors is for --engine ray")
    from roadwork_core.bundle import load

    yield load(
        options.bundle,
        device=options.device,
        backend=options.backend,
        batch_size=options.batch_size,
        workers=options.workers,
        threads=options.threads,
    )


def _to_file(
    options: argparse.Namespace,
    predictor: Predictor | RayPredictor,
    sources: Iterator[Source],
    stream: Callable[[Iterable[Source]], Iterator[Prediction]],
    console: Console,
) -> tuple[int, int]:
    """How many pictures were answered for, in this run and those that it goes on with, and how many had an error."""
    from contextlib import closing

    from roadwork_core.bundle.journal import Journal

    names = ("must_answer", "device", "batch_size", "threads")
    bundle = predictor.bundle
    asked = {"bundle_id": bundle.id, "policy": bundle.policy_for(mode=options.mode, policy=options.policy)}
    if predictor.backend != "torch":  # which is what computed before there was a choice
        asked["backend"] = predictor.backend
    with closing(Journal(options.out, asked | {name: getattr(options, name) for name in names})) as journal:
        pending = journal.rest(sources)
        if journal.answered:
            console.info(f"{journal.answered} are answered already: {journal.part}")
        for prediction in console.progress(stream(pending), label="predict"):
            journal.write(prediction.to_json())
        journal.finish()
    if console.as_json:
        counts = {"answered": journal.answered, "failed": journal.failed}
        console.json({"schema": "roadwork.predict/1", "out": str(options.out), **counts})
    else:
        console.out(f"{journal.answered} in {options.out}")
    return journal.answered, journal.failed


def _writer(
    options: argparse.Namespace, predictor: Predictor | RayPredictor, console: Console
) -> Callable[[Prediction], None]:
    if options.json:
        return lambda prediction: console.json(prediction.to_json())
    if options.csv:
        from roadwork_core.bundle.journal import COLUMNS, cells

        table = csv.DictWriter(console.stdout, COLUMNS, lineterminator="\n")
        table.writeheader()
        return lambda prediction: table.writerow(cells(prediction.to_json()))
    from roadwork_core.errors import printable

    width = max(len("abstain"), *(len(label) for label in predictor.bundle.labels))
    policy_width = max(len(name) for name in predictor.bundle.policies)
    verbose = console.verbosity > 0

    def write(prediction: Prediction) -> None:
        path = printable(str(prediction.path))
        if prediction.error is not None:
            console.out(f"{'error':<{width}}  {'':>6}  {'':<{policy_width}}  {path}: {prediction.error}")
            return
        label = prediction.label or "abstain"
        reason = f"  ({prediction.reason})" if verbose or prediction.abstain else ""
        console.out(f"{label:<{width}}  {prediction.score:6.4f}  {prediction.policy:<{policy_width}}  {path}{reason}")

    return write
