"""What computes a bundle's network: torch, or ONNX Runtime where the bundle carries its network in ONNX."""

from __future__ import annotations

import argparse
import importlib.util
import os
from typing import Any, Literal

from .errors import RoadworkError, UsageError
from .extras import how_to_install

Backend = Literal["torch", "onnx"]
#: What may be asked for.
CHOICES = ("auto", "torch", "onnx")
NAMES: dict[Backend, str] = {"torch": "torch", "onnx": "ONNX Runtime"}


def add_option(parser: argparse.ArgumentParser) -> None:
    """`--backend`, in the same words wherever a command computes with a bundle."""
    parser.add_argument(
        "--backend",
        choices=CHOICES,
        default="auto",
        help="what computes the network (default: ONNX Runtime on a CPU where the bundle carries it, else torch)",
    )


def onnx_is_installed() -> bool:
    """Whether what checks and computes a network in ONNX is there; imports nothing."""
    return _are_there("onnx", "onnxruntime")


def onnx_can_be_written() -> bool:
    """Whether what writes, checks and computes a network in ONNX is there, beside torch; imports nothing."""
    return _are_there("onnx", "onnxruntime", "onnxscript")


def _are_there(*modules: str) -> bool:
    return all((spec := importlib.util.find_spec(name)) is not None and spec.origin is not None for name in modules)


def onnxruntime() -> Any:
    """The module, imported by nobody else here: as its wheels come, it tells its makers what it does on which machine.

    Raises RoadworkError where it is not installed.
    """
    # Read once, as it is loaded; who wants to tell sets it to 0.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise RoadworkError(f"onnxruntime cannot be imported: {error}", hint=how_to_install("onnx")) from None
    return onnxruntime


def resolve(asked: str, *, carries_onnx: bool, device: str) -> Backend:
    """The backend for a choice: ONNX Runtime for "auto" on a CPU where the bundle and the installation have it.

    Raises UsageError for one that cannot be had.
    """
    if asked not in CHOICES:
        raise UsageError(f"there is no backend {asked!r}", hint=f"it is one of {', '.join(CHOICES)}")
    on_cpu = device.partition(":")[0] == "cpu"
    if asked == "auto":
        return "onnx" if carries_onnx and on_cpu and onnx_is_installed() else "torch"
    if asked == "torch":
        return "torch"
    if not carries_onnx:
        raise UsageError("this bundle carries no network in ONNX", hint='a spec with [bundle] onnx = "on" makes one')
    if not on_cpu:
        raise UsageError(
            f"the backend onnx computes on a CPU, not on {device}", hint="--device cpu, or --backend torch"
        )
    if not onnx_is_installed():
        raise UsageError("the backend onnx needs ONNX Runtime", hint=how_to_install("onnx"))
    return "onnx"
