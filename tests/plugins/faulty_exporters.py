"""Faults of exporters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from roadwork_core.testing import ExporterContract

from .faulty import Case, made


def does(fault: Callable[[Any], None], told: Any = None) -> type:
    """An exporter that writes one file, tells `told`, and has a fault."""

    def build(self: Any, ctx: Any) -> Any:
        (ctx.folder / "labels.txt").write_text("a\nb\n")
        fault(ctx)
        return {} if told is None else told

    return made("exporter", build)


def removes_its_file(ctx: Any) -> None:
    (ctx.folder / "labels.txt").unlink()


def writes_a_pickle(ctx: Any) -> None:
    (ctx.folder / "model.pkl").write_bytes(b"")


def links_to_the_bundle(ctx: Any) -> None:
    (ctx.folder / "weights").symlink_to(ctx.runtime.bundle.path / "model" / "weights.safetensors")


def writes_here(ctx: Any) -> None:
    Path("model.onnx").write_text("here")


def marks_the_bundle(ctx: Any) -> None:
    (ctx.runtime.bundle.path / "exported").write_text("yes")


def nothing(ctx: Any) -> None:
    pass


def case(fault: str, cls: type, said: str) -> Case:
    return Case(contract=ExporterContract, check="test_hands_over_data_alone", cls=cls, said=said, fault=fault)


CASES = [
    case("nothing", does(removes_its_file), "writes nothing"),
    case("a pickle", does(writes_a_pickle), "model.pkl is of a format that can carry code"),
    case("a link", does(links_to_the_bundle), "weights is a link"),
    case("here", does(writes_here), "writes model.onnx into the current"),
    case("the bundle", does(marks_the_bundle), "it changes the bundle"),
    case("a path", does(nothing, {"path": Path("x")}), "no JSON table"),
    case("a list", does(nothing, ["x"]), "no JSON table"),
]
