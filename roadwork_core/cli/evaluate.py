"""`roadwork evaluate`: a bundle on any labelled set, with intervals, plots and a report."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roadwork_core.backends import add_option

from .run import HEADLINE, with_interval

if TYPE_CHECKING:
    from collections.abc import Mapping

    from roadwork_core.bundle import Predictor
    from roadwork_core.console import Console
    from roadwork_core.evaluation.labelled_set import LabelledSet
    from roadwork_core.plugins import Plugins

DISTORTION = "validator_distortions"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder")
    add_data_options(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: evaluations/<bundle>-<data>)")
    parser.add_argument(
        "--distort",
        nargs="?",
        const=DISTORTION,
        metavar="NAME",
        help=f"measure on distorted pictures too, by an augmentation with levels (default: {DISTORTION})",
    )
    parser.add_argument(
        "--prior",
        type=float,
        default=0.5,
        metavar="P",
        help="share of positives to which the figures are carried over as well (default: 0.5)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON document")


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """The labelled set and how its figures are made, the same for every command that measures a bundle."""
    parser.add_argument(
        "--data",
        required=True,
        metavar="PATH",
        help="a folder with one folder per class, a manifest (.csv, .tsv, .jsonl), or the name of a dataset component",
    )
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="K=V", help="an option of the dataset, in TOML"
    )
    parser.add_argument(
        "--split", dest="splits", action="append", default=[], metavar="NAME", help="only this split of the data's own"
    )
    parser.add_argument(
        "--on-bad-image", choices=("error", "skip"), default="error", help="what an unreadable picture does"
    )
    parser.add_argument(
        "--bootstrap", type=int, default=2000, metavar="N", help="resamples per interval (default: 2000)"
    )
    parser.add_argument("--level", type=float, default=0.95, metavar="P", help="confidence level (default: 0.95)")
    parser.add_argument("--seed", type=int, default=0, help="of resamples and distortions (default: 0)")
    parser.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="views that go through the model together (default: each picture alone on a CPU, 64 elsewhere)",
    )
    parser.add_argument("--device", default="auto", metavar="DEVICE", help="cpu, cuda, ... (default: a GPU if any)")
    add_option(parser)


def handle(options: argparse.Namespace, console: Console) -> int:
    from roadwork_core.evaluation.of_bundle import check_folder, evaluate, write_evaluation
    from roadwork_core.plugins import Plugins

    plugins = Plugins.load()
    evaluating = evaluate_options(options, prior=options.prior)
    if options.out is not None:
        check_folder(options.out)
    with open_set(options, plugins, console) as (predictor, found):
        folder = options.out or Path("evaluations") / f"{predictor.bundle.name}-{found.name}"
        check_folder(folder)
        evaluation = evaluate(
            predictor.runtime,
            found,
            plugins,
            console,
            options=evaluating,
            seed=options.seed,
            distort=options.distort,
        )
        report = write_evaluation(evaluation, predictor.runtime, folder)
    if console.as_json:
        console.json({**evaluation.metrics, "out_dir": str(folder), "report": str(report)})
        return 0
    _print(evaluation.metrics, report, console)
    return 0


def evaluate_options(options: argparse.Namespace, **more: Any) -> Any:
    """[evaluate] from the command line. Raises UsageError for a value out of bounds."""
    from roadwork_core.errors import UsageError
    from roadwork_core.spec.model import Evaluate

    wanted = {"bootstrap": options.bootstrap, "level": options.level, **more}
    bounds = {"bootstrap": (100, None), "level": (0.5, 1.0), "prior": (0.0, 1.0)}
    for name, value in wanted.items():
        low, high = bounds[name]
        inside = value >= low if high is None else low < value < high
        if not inside:
            raise UsageError(
                f"--{name} must be {f'at least {low}' if high is None else f'between {low:g} and {high:g}'}"
            )
    if options.seed < 0:
        raise UsageError("--seed must not be negative")
    if options.batch_size is not None and options.batch_size < 1:
        raise UsageError("--batch-size must be at least 1")
    return Evaluate(**wanted)


@contextmanager
def open_set(
    options: argparse.Namespace, plugins: Plugins, console: Console
) -> Iterator[tuple[Predictor, LabelledSet]]:
    """The bundle and the labelled set of the command line, with a word on what may mislead.

    Pictures that the dataset renders or fetches are there until the context ends.
    """
    import tempfile

    from roadwork_core.bundle import load
    from roadwork_core.evaluation.labelled_set import dataset_for, read_labelled

    component = dataset_for(options.data, options.settings, plugins)
    predictor = load(
        options.bundle, plugins=plugins, device=options.device, backend=options.backend, batch_size=options.batch_size
    )
    path = Path(options.data)
    with tempfile.TemporaryDirectory(prefix="roadwork-") as scratch:
        found = read_labelled(
            component,
            (path.stem if path.suffix else path.resolve().name) if path.exists() else options.data,
            predictor.bundle.labels,
            plugins,
            console,
            splits=options.splits,
            cache_dir=Path(scratch),
            on_bad_image=options.on_bad_image,
            max_pixels=predictor.bundle.manifest["signature"]["input"]["max_pixels"],
            seed=options.seed,
        )
        if found.splits:
            console.warn(
                f"the data come with splits ({', '.join(found.splits)}), and all are measured; --split chooses"
            )
        for entry in found.bad:
            console.warn(f"left out: {entry.sample.path}: {entry.reason}")
        yield predictor, found


def _print(metrics: Mapping[str, Any], report: Path, console: Console) -> None:
    console.out(
        f"{metrics['split']}: {metrics['n']} pictures in {metrics['groups']} groups, policy {metrics['active']}"
    )
    console.out(f"report   {report}")
    shown = dict(metrics["metrics"])
    for name in (*HEADLINE, "coverage", "selective_risk"):
        if name in shown and shown[name]["value"] is not None:
            console.out(f"{name:<15} {with_interval(shown[name])}")
    if shift := metrics["prior_shift"]:
        console.out(f"mcc at {100 * shift['prior']:.0f} %     {with_interval(shift['metrics']['mcc'])}")
    for line in metrics.get("robustness", {}).get("levels", ()):
        mine = line["policies"][metrics["active"]]
        change = mine["difference"]["mcc"]
        console.out(
            f"mcc, level {line['level']:<5}{with_interval(mine['metrics']['mcc'])}  change {with_interval(change)}"
        )
