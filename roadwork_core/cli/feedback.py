"""`roadwork feedback`: what served bundles said, and the labels that came later."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import common_options

if TYPE_CHECKING:
    from roadwork_core.console import Console

DAY = 86_400.0


def configure(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    taking = commands.add_parser("import", help="add predictions and labels to a store", parents=[common_options()])
    giving = commands.add_parser("export", help="write a store as a Parquet file", parents=[common_options()])
    counting = commands.add_parser("stats", help="what a store holds", parents=[common_options()])
    pruning = commands.add_parser("prune", help="remove what is old from a store", parents=[common_options()])
    for child in (taking, giving, counting, pruning):
        child.add_argument("store", type=Path, metavar="STORE", help="the store, a SQLite file")
    taking.add_argument(
        "file", type=Path, metavar="FILE", help="a .csv or .jsonl of predictions or labels, or a folder of evaluate"
    )
    taking.add_argument("--bundle-id", default="", metavar="ID", help="of predictions that do not say theirs")
    taking.add_argument("--source", default="", metavar="TEXT", help="who labelled (default: the file's name)")
    giving.add_argument("file", type=Path, metavar="FILE", help="the Parquet file to write")
    giving.add_argument("--labelled", action="store_true", help="only predictions whose label has come")
    giving.add_argument("--bundle-id", metavar="ID", help="only this bundle's, by how its id begins")
    pruning.add_argument("--days", type=float, metavar="N", help="remove predictions that are older than N days")
    pruning.add_argument("--keep", type=int, metavar="N", help="keep at most N predictions, the latest")
    pruning.add_argument(
        "--pictures",
        type=Path,
        metavar="DIR",
        help="a server's --feedback-pictures: remove those of no prediction that is left",
    )
    for child in (taking, giving, counting, pruning):
        child.add_argument("--json", action="store_true", help="print JSON")


def handle(options: argparse.Namespace, console: Console) -> int:
    from roadwork_core.feedback import FeedbackStore

    _check(options)
    with FeedbackStore(options.store, create=options.action == "import") as store:
        if options.action == "stats":
            return _stats(store, console)
        if options.action == "import":
            result: dict[str, Any] = _import(store, options)
        elif options.action == "export":
            result = _export(store, options)
        else:
            result = _prune(store, options)
    if console.as_json:
        console.json({"schema": f"roadwork.feedback-{options.action}/1", **result})
    else:
        console.out(", ".join(f"{value} {name}" for name, value in result.items()))
    return 0


def _check(options: argparse.Namespace) -> None:
    from roadwork_core.errors import UsageError

    if options.action == "import" and not options.file.exists():
        raise UsageError("there is no such file", path=options.file)
    if options.action != "prune":
        return
    if options.days is None and options.keep is None and options.pictures is None:
        raise UsageError("say what may go: --days, --keep, --pictures, or several")
    if options.pictures is not None and not options.pictures.is_dir():
        raise UsageError("there is no such folder of pictures", path=options.pictures)
    if (options.days is not None and not options.days >= 0) or (options.keep is not None and options.keep < 0):
        raise UsageError("--days and --keep must not be negative")


def _import(store: Any, options: argparse.Namespace) -> dict[str, int]:
    from roadwork_core.feedback.exchange import import_evaluation, import_table

    if options.file.is_dir():
        return import_evaluation(store, options.file)
    return import_table(store, options.file, bundle_id=options.bundle_id, source=options.source)


def _prune(store: Any, options: argparse.Namespace) -> dict[str, Any]:
    from roadwork_core.errors import RoadworkError
    from roadwork_core.feedback import PictureFolder

    before = None if options.days is None else time.time() - options.days * DAY
    result = {"removed": store.prune(before=before, keep=options.keep)}
    if options.pictures is not None:
        try:
            result["pictures"] = store.prune_pictures(PictureFolder(options.pictures))
        except OSError as error:
            raise RoadworkError(f"a picture cannot be removed: {error.strerror}", path=error.filename) from None
    return result


def _export(store: Any, options: argparse.Namespace) -> dict[str, Any]:
    from roadwork_core.feedback.exchange import export_parquet

    rows = export_parquet(store, options.file, labelled=options.labelled, bundle_id=options.bundle_id)
    return {"rows": rows, "out": str(options.file)} if options.json else {f"rows to {options.file}": rows}


def _stats(store: Any, console: Console) -> int:
    found = store.stats()
    if console.as_json:
        console.json({"schema": "roadwork.feedback-stats/1", **found})
        return 0
    span = " to ".join(_day(found[name]) for name in ("first", "last"))
    console.out(f"{found['predictions']} predictions, {span}; {found['labels']} labels")
    for name, entry in found["bundles"].items():
        console.out(
            f"{name[:12] or '-':<12}  {entry['predictions']} predictions, {entry['labelled']} labelled,"
            f" {entry['wrong']} wrong, {entry['abstained']} abstained"
        )
    return 0


def _day(when: float | None) -> str:
    return "-" if when is None else f"{datetime.fromtimestamp(when, UTC):%Y-%m-%d}"
