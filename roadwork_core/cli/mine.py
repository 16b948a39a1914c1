"""`roadwork mine`: the errors worth training on, out of a feedback store or an evaluation."""

from __future__ import annotations

import argparse
import csv
import io
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roadwork_core.bundle import Predictor
    from roadwork_core.console import Console
    from roadwork_core.feedback import FeedbackStore

SCHEMA = "roadwork.mined/1"
MANIFEST = "hard_negatives.csv"
#: In the order of writing: the manifest is the last, so that where it is new everything is.
WRITTEN = ("review.csv", "sheet.jpg", "mined.json", MANIFEST)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a feedback store, or a folder of evaluate")
    parser.add_argument(
        "--run",
        type=Path,
        metavar="DIR",
        help="the run whose held-out pictures are refused (default: the one that made --bundle)",
    )
    parser.add_argument(
        "--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="where to look for that run (default: runs)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("mined"), metavar="DIR", help="where to write (default: mined)"
    )
    parser.add_argument("--cap", type=int, default=500, metavar="N", help="errors of each type at most (default: 500)")
    parser.add_argument(
        "--pool", type=int, default=5000, metavar="N", help="errors of the largest loss to choose from (default: 5000)"
    )
    parser.add_argument("--neighbours", type=int, default=10, metavar="N", help="that are compared (default: 10)")
    parser.add_argument(
        "--agreement",
        type=float,
        default=0.2,
        metavar="P",
        help="a label that fewer of the neighbours share is doubted (default: 0.2)",
    )
    parser.add_argument(
        "--bundle", type=Path, metavar="BUNDLE", help="compare by its backbone's features where the store has none"
    )
    parser.add_argument("--bundle-id", metavar="ID", help="only predictions of this bundle, by how its id begins")
    parser.add_argument("--days", type=float, metavar="N", help="only predictions of the last N days")
    parser.add_argument("--device", default="auto", metavar="DEVICE", help="cpu, cuda, ... (default: a GPU if any)")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON document")


def handle(options: argparse.Namespace, console: Console) -> int:
    from roadwork_core.files import pretty_json, write_atomic
    from roadwork_core.mining.held_out import HeldOut
    from roadwork_core.mining.mine import Options, mine, rows_of_manifest, rows_of_review
    from roadwork_core.mining.sheet import contact_sheet

    _check(options)
    held_out = HeldOut(options.run or _run(options))
    wanted = Options(
        cap=options.cap,
        pool=options.pool,
        neighbours=options.neighbours,
        agreement=options.agreement,
        bundle_id=options.bundle_id,
        since=None if options.days is None else time.time() - 86_400 * options.days,
    )
    predictor = None if options.bundle is None else cache(lambda: _loaded(options))
    with _opened(options.source) as store:
        mined = mine(store, held_out, console, options=wanted, predictor=predictor)
    document = {
        "schema": SCHEMA,
        "out_dir": str(options.out),
        "manifest": str(options.out / MANIFEST),
        "chosen": len(mined.chosen),
        "doubted": len(mined.suspects),
        "counts": mined.counts,
    }
    for left in options.out.glob(".*"):
        if _unfinished(left.name):
            left.unlink()
    write_atomic(options.out / "review.csv", _csv(rows_of_review(mined)))
    sheet = contact_sheet(mined.chosen, mined.suspects, max_pixels=wanted.max_pixels)
    write_atomic(options.out / "sheet.jpg", sheet)
    write_atomic(options.out / "mined.json", pretty_json(document))
    write_atomic(options.out / MANIFEST, _csv(rows_of_manifest(mined)))
    if console.as_json:
        console.json(document)
        return 0
    for name, count in mined.counts.items():
        console.info(f"{count:>8} {name.replace('_', ' ')}")
    console.out(f"{len(mined.chosen)} to train on: {options.out / MANIFEST}")
    console.out(f"{len(mined.suspects)} to review: {options.out / 'review.csv'}")
    return 0


def _loaded(options: argparse.Namespace) -> Predictor:
    from roadwork_core.bundle import load

    return load(options.bundle, device=options.device, backend="torch")


def _check(options: argparse.Namespace) -> None:
    from roadwork_core.errors import UsageError

    for name in ("cap", "pool", "neighbours"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name} must be at least 1")
    if not 0 <= options.agreement <= 1:
        raise UsageError("--agreement must be between 0 and 1")
    if options.days is not None and not options.days > 0:
        raise UsageError(f"--days must be above 0, got {options.days:g}")
    if options.out.exists() and (not options.out.is_dir() or _strange(options.out)):
        raise UsageError("is there already and holds nothing mined", path=options.out, hint="choose another --out")


def _strange(folder: Path) -> bool:
    """Whether a folder holds anything that a `mine` before, perhaps one that was killed, did not write."""
    return any(path.name not in WRITTEN and not _unfinished(path.name) for path in folder.iterdir())


def _unfinished(name: str) -> bool:
    """Whether a file is one that a killed `mine` was writing."""
    return any(name.startswith(f".{one}.") for one in WRITTEN)


def _run(options: argparse.Namespace) -> Path:
    from roadwork_core.errors import UsageError
    from roadwork_core.runs.made import run_of

    if options.bundle is None:
        raise UsageError("say which pictures are held out", hint="--run DIR, or --bundle BUNDLE whose run is known")
    found = run_of(options.bundle, options.runs_dir)
    if found is None:
        raise UsageError(f"no run in {options.runs_dir} made this bundle", path=options.bundle, hint="--run names it")
    return found


@contextmanager
def _opened(source: Path) -> Iterator[FeedbackStore]:
    from roadwork_core.feedback import FeedbackStore
    from roadwork_core.feedback.exchange import import_evaluation

    if not source.is_dir():
        with FeedbackStore(source, create=False) as store:
            yield store
        return
    with tempfile.TemporaryDirectory(prefix="roadwork-") as scratch, FeedbackStore(Path(scratch) / "store") as store:
        import_evaluation(store, source)
        yield store


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
