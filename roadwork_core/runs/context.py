"""What a stage is given: the spec, a folder to write into, and those inputs that it may see, no others."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from roadwork_core.console import Console
from roadwork_core.errors import RoadworkError

from .directory import Run

if TYPE_CHECKING:
    from roadwork_core.plugins import Plugins
    from roadwork_core.spec import ResolvedSpec, Spec


class LeakageError(RoadworkError):
    """A stage asked for an input that it did not declare; a defect of the stage, never of the data."""


@frozen(kw_only=True)
class StageContext:
    """Surroundings of one stage.

    `folder` becomes the stage's folder when it finishes; `scratch` survives an interruption and is handed to the next
    attempt with the same fingerprint; `reads` are the declared inputs, "stage/path" patterns.
    """

    stage: str
    run: Run
    resolved: ResolvedSpec
    plugins: Plugins
    console: Console
    folder: Path
    scratch: Path
    reads: tuple[str, ...]

    @property
    def spec(self) -> Spec:
        return self.resolved.spec

    @property
    def cache_dir(self) -> Path:
        """Outlives the run: data that a dataset renders or fetches."""
        return self.run.cache

    def input(self, stage: str, name: str) -> Path:
        """The file `name` that an earlier stage put out.

        Raises LeakageError where this stage may not see it, RoadworkError where it is not there.
        """
        wanted = f"{stage}/{name}"
        if ".." in Path(name).parts or not any(fnmatchcase(wanted, pattern) for pattern in self.reads):
            raise LeakageError(
                f"the stage {self.stage} may not read {wanted}", hint=f"it reads {', '.join(self.reads)}"
            )
        path = self.run.folder(stage) / name
        if not path.is_file():
            raise RoadworkError(
                "this output of an earlier stage is missing", path=path, hint=f"delete {path.parent} and run again"
            )
        return path

    def inputs(self, stage: str, pattern: str) -> list[Path]:
        """Every file of an earlier stage that matches `pattern`, by name; each must be one that may be seen."""
        folder = self.run.folder(stage)
        names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
        return [self.input(stage, name) for name in names if fnmatchcase(name, pattern)]

    def has_input(self, stage: str, name: str) -> bool:
        """Whether an optional input that this stage may see is there."""
        return (
            any(fnmatchcase(f"{stage}/{name}", pattern) for pattern in self.reads)
            and (self.run.folder(stage) / name).is_file()
        )
