"""What an engine runs, made of a bundle in a process of its own: `python artefacts.py ENGINE BUNDLE TARGET`."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

#: Folders of `roadwork export --to onnx`, without torch.
EXPORTS = ("ONNX export", "ONNX int8", "ONNX int8_all")
#: Those that need something made. The others run the bundle itself.
MADE = ("torch.export", "AOTInductor", *EXPORTS)


def make(engine: str, bundle: Path, target: Path) -> None:
    """Writes a folder (ONNX) or an archive. Raises ValueError with the reason where roadwork refuses."""
    if engine in EXPORTS:
        _export_onnx(engine, bundle, target)
        return
    import torch

    from roadwork_core.bundle import load

    scorer = load(bundle, device="cpu", backend="torch").runtime.scorer
    example = (torch.zeros(2, 3, *scorer.preprocessing.size),)
    with torch.no_grad():
        program = torch.export.export(
            scorer.model, example, dynamic_shapes=({0: torch.export.Dim("batch", min=1)},), strict=False
        )
        if engine == "AOTInductor":
            torch._inductor.aoti_compile_and_package(program, package_path=str(target))
        else:
            torch.export.save(program, target)


def _export_onnx(engine: str, bundle: Path, target: Path) -> None:
    from roadwork_core.cli import main

    words = ["export", str(bundle), "--to", "onnx", "--out", str(target), "-q", "--json"]
    quantize = engine.rpartition(" ")[2]
    words += ["--set", f'quantize="{quantize}"', "--set", "agreement=0"] if "int8" in quantize else []
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        code = main(words)
    if code:
        raise ValueError(json.loads(printed.getvalue())["errors"][0]["message"])


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
