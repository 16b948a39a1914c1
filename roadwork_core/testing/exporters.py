"""What an exporter promises."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import sha256_file
from ..kinds import ExporterContext, Kind
from .contract import ComponentContract, refuse

if TYPE_CHECKING:
    from ..bundle.runtime import Runtime
    from ..plugins import Plugins

#: Formats that carry code or pickles, by suffix.
_CODE = frozenset({".py", ".pyc", ".so", ".dll", ".sh", ".pkl", ".pickle", ".joblib", ".pt", ".pt2", ".pth", ".bin"})


class ExporterContract(ComponentContract):
    """An exporter fills its folder with data, the same each time, leaves the bundle alone and tells what it did.

    It is tried on a small bundle with one view and one cut; override `bundle` where it takes only others.
    """

    kind = Kind.EXPORTER

    def bundle(self, folder: Path) -> tuple[Runtime, Plugins]:
        """A bundle below `folder`, brought to life, and the plugins that supply its parts."""
        from . import stand_in_bundle

        plugins = stand_in_bundle.with_stand_ins(self.plugins)
        return stand_in_bundle.runtime(folder, plugins), plugins

    def exercise(self, component: Any) -> Any:
        with tempfile.TemporaryDirectory() as scratch:
            runtime, plugins = self.bundle(Path(scratch) / "bundle")
            told = self._export(component, runtime, plugins, Path(scratch) / "out")
            return {"told": told, "files": _digests(Path(scratch) / "out")}

    def test_hands_over_data_alone(self) -> None:
        """A JSON table, and data in its own folder; nothing elsewhere, the bundle as it was."""
        for component in self.cases():
            with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory() as elsewhere:
                folder, out = Path(scratch) / "bundle", Path(scratch) / "out"
                runtime, plugins = self.bundle(folder)
                before, here = _digests(folder), Path.cwd()
                os.chdir(elsewhere)
                try:
                    told = self._export(component, runtime, plugins, out)
                finally:
                    os.chdir(here)
                if _digests(folder) != before:
                    refuse("it changes the bundle")
                if left := sorted(path.name for path in Path(elsewhere).iterdir()):
                    refuse(f"it writes {', '.join(left)} into the current directory, not into ctx.folder")
                _refuse_what_is_no_data(out)
                if not _is_json_table(told):
                    refuse(f"build gives {told!r}, which is no JSON table")

    @staticmethod
    def _export(component: Any, runtime: Runtime, plugins: Plugins, out: Path) -> Any:
        out.mkdir()
        return component.build(ExporterContext(runtime=runtime, plugins=plugins, folder=out))


def _digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }


def _refuse_what_is_no_data(out: Path) -> None:
    if not _digests(out):
        refuse("it writes nothing into ctx.folder")
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out)
        if path.is_symlink():
            refuse(f"{name} is a link; an export is self-contained")
        if path.is_file() and path.suffix in _CODE:
            refuse(f"{name} is of a format that can carry code")


def _is_json_table(told: Any) -> bool:
    try:
        return isinstance(told, Mapping) and bool(json.loads(json.dumps(told, allow_nan=False)) == told)
    except (TypeError, ValueError):
        return False
