"""`roadwork data`: what a spec makes of its pictures, before anything trains."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roadwork_core.spec import SPLITS

from . import common_options
from .run import add_override_options

if TYPE_CHECKING:
    from roadwork_core.console import Console
    from roadwork_core.data.preprocessing import Preprocessing
    from roadwork_core.data.preview import Strip
    from roadwork_core.plugins import Plugins
    from roadwork_core.spec import Spec

SCHEMA = "roadwork.preview/1"
MOST_SAMPLES, MOST_VIEWS = 64, 16


def configure(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    preview = commands.add_parser(
        "preview", help="draw pictures beside what training sees of them, as a PNG", parents=[common_options()]
    )
    preview.add_argument("spec", type=Path, metavar="SPEC", help="the spec, a TOML file")
    add_override_options(preview)
    preview.add_argument("--out", type=Path, metavar="FILE", help="the PNG to write (default: NAME-preview.png)")
    preview.add_argument("--force", action="store_true", help="overwrite a file that is there")
    preview.add_argument("--samples", type=int, default=8, metavar="N", help="pictures, one per row (default: 8)")
    preview.add_argument("--views", type=int, default=6, metavar="M", help="epochs, one per column (default: 6)")
    preview.add_argument(
        "--split", choices=SPLITS, default="train", help="where pictures are from; only train is augmented"
    )
    preview.add_argument(
        "--size", type=int, metavar="PIXELS", help="side of the model's input, so that its weights need not be loaded"
    )
    preview.add_argument(
        "--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="its cache is used (default: runs)"
    )
    preview.add_argument("--json", action="store_true", help="print what is on the sheet as JSON")


def handle(options: argparse.Namespace, console: Console) -> int:
    from roadwork_core.plugins import Plugins
    from roadwork_core.spec import load_spec

    _check_counts(options)
    plugins = Plugins.load()
    resolved = load_spec(options.spec, plugins, overrides=options.overrides, unset=options.unset)
    for warning in resolved.warnings:
        console.warn(str(warning))
    out = Path(f"{resolved.spec.name}-preview.png") if options.out is None else options.out
    _check_out(out, force=options.force)
    return _preview(resolved.spec, plugins, out, options, console)


def _check_counts(options: argparse.Namespace) -> None:
    from roadwork_core.errors import UsageError

    for name, value, least, most in (
        ("--samples", options.samples, 1, MOST_SAMPLES),
        ("--views", options.views, 1, MOST_VIEWS),
        ("--size", options.size or 1, 1, 8192),
    ):
        if not least <= value <= most:
            raise UsageError(f"{name} must be from {least} to {most}, got {value}")
    if options.size == 0:
        raise UsageError("--size must be from 1 to 8192, got 0")


def _check_out(out: Path, *, force: bool) -> None:
    """Before anything is read, so that a mistake does not cost minutes."""
    from roadwork_core.errors import UsageError

    if out.is_dir():
        raise UsageError("is a folder, not a file to write", path=out, hint=f"--out {out / 'preview.png'}")
    if out.suffix.lower() != ".png":
        raise UsageError("a contact sheet is a PNG", path=out, hint=f"--out {out.with_suffix('.png')}")
    if not out.parent.is_dir():
        raise UsageError("the folder to write into does not exist", path=out.parent, hint="make it, or change --out")
    if out.exists() and not force:
        raise UsageError("is there already", path=out, hint="--force overwrites it, or give another --out")


def _preview(spec: Spec, plugins: Plugins, out: Path, options: argparse.Namespace, console: Console) -> int:
    import io

    from roadwork_core.data import preview
    from roadwork_core.files import write_atomic
    from roadwork_core.kinds import AugmentationContext

    cache = options.runs_dir.absolute() / ".cache"
    rows, classes = preview.rows_of_split(spec, plugins, options.split, cache_dir=cache, console=console)
    preprocessing = _preprocessing(spec, options.size, console)
    trains = options.split == "train"
    augments = spec.augment if trains else ()
    context = AugmentationContext(image_size=preprocessing.size, num_classes=len(classes))
    strips = preview.make_strips(
        preview.chosen(rows, options.samples, seed=spec.seed),
        preprocessing,
        [augment.component.build(context) for augment in augments if augment.on == "sample"],
        [augment.component.build(context) for augment in augments if augment.on == "batch"],
        classes=classes,
        views=options.views if trains else 1,
        seed=spec.seed,
        max_pixels=spec.data.max_pixels,
    )
    names = [plugins.use_name(augment.component) for augment in augments]
    height, width = preprocessing.size
    if not trains:
        lines = [f"{options.split}, not augmented: the model's input of {width} x {height}, {preprocessing.fit}"]
    else:
        steps = " > ".join(names) if names else f"no augmentation, only {preprocessing.fit}"
        lines = [f"{options.split}, {len(rows)} samples, seed {spec.seed}, input of {width} x {height}", steps]
    sheet = preview.contact_sheet(strips, title=spec.name, lines=lines, classes=classes, augmented=trains)
    file = io.BytesIO()
    sheet.save(file, format="PNG", optimize=True)
    write_atomic(out, file.getvalue())
    if console.as_json:
        console.json(_document(out, options.split, preprocessing.size, names, strips))
    else:
        console.out(str(out))
        console.info(f"{len(strips)} of {len(rows)} samples of {options.split}, {sheet.width} x {sheet.height} pixels")
    return 0


def _preprocessing(spec: Spec, size: int | None, console: Console) -> Preprocessing:
    """That of the spec's model, or without loading it one of this size."""
    from roadwork_core.data.preprocessing import Preprocessing

    if size is not None:
        return Preprocessing(size=(size, size), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), fit=spec.data.fit)
    from roadwork_core.model import build_backbone, preprocessing_of

    return preprocessing_of(spec, build_backbone(spec, console.detail))


def _document(out: Path, split: str, size: tuple[int, int], names: list[str], strips: list[Strip]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "out": str(out),
        "split": split,
        "size": list(size),
        "augmentations": names,
        "samples": [
            {
                "index": strip.row.index,
                "path": strip.row.path,
                "label": strip.row.label,
                "views": [{"epoch": number, "target": dict(view.target)} for number, view in enumerate(strip.views, 1)],
            }
            for strip in strips
        ],
    }
