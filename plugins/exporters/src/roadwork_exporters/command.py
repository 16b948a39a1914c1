"""`roadwork predict-onnx`: decisions from an ONNX export, where torch need not be installed."""

from __future__ import annotations

import argparse
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from roadwork_core.console import Console

TEXT = "decide on images or folders with an ONNX export, without torch"
_BATCH = 32


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("export", type=Path, metavar="EXPORT", help="a folder that roadwork export --to onnx wrote")
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
    parser.add_argument("--json", action="store_true", help="print one JSON object per picture and line")


def handle(options: argparse.Namespace, console: Console) -> int:
    from roadwork_core.bundle import Prediction, find_images
    from roadwork_core.errors import ExitCode, printable

    from .onnx_runtime import load

    predictor = load(options.export)
    if predictor.notice:
        console.warn(predictor.notice)
    pending = find_images(options.paths, sys.stdin)
    failed = total = 0
    while batch := list(islice(pending, _BATCH)):
        known = [source for source in batch if source.error is None]
        predicted = iter(
            predictor.predict(
                [source.path for source in known],
                mode=options.mode,
                policy=options.policy,
                must_answer=options.must_answer,
                on_bad_image="report",
            )
        )
        for source in batch:
            found = next(predicted) if source.error is None else Prediction(path=source.path, error=source.error)
            total += 1
            failed += found.error is not None
            if options.json:
                console.json(found.to_json())
            elif found.error is not None:
                console.out(f"error    {printable(source.path)}: {found.error}")
            else:
                console.out(f"{found.label or 'abstain'}  {found.score:6.4f}  {found.policy}  {printable(source.path)}")
    if failed:
        console.warn(f"{failed} of {total} could not be predicted")
    return ExitCode.FAILED if failed else ExitCode.OK
