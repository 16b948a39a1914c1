"""Pictures of a folder, none of which has a label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from roadwork_core import component, option
from roadwork_core.data.sample import Sample
from roadwork_core.errors import DataError
from roadwork_core.kinds import DatasetContext

from .picture_files import EXTENSIONS, files_below


@component("dataset", "unlabelled_folder")
class UnlabelledFolder:
    """Pictures below `root` at any depth, for `adapt.data`: nothing is read from the folders' names."""

    root: str = option(min_length=1, help="the folder that holds the pictures")
    extensions: tuple[str, ...] = option(
        default=EXTENSIONS, min_length=1, pattern=r"\.[A-Za-z0-9.]+", help="what files are taken, in any case"
    )
    group_folders: bool = option(
        default=False,
        help="pictures of one folder below `root` belong together, as the frames of a drive do: where one is near to a"
        " held-out picture, all of them are left out",
    )
    source: str = option(default="", help="where the pictures are from, noted with each sample")

    def build(self, ctx: DatasetContext) -> Sequence[Sample]:
        """The pictures in natural order of their paths, all labelled "unlabelled".

        Hidden files and folders are passed over; other files that are not taken are counted in a message. Raises
        DataError for a folder that is missing or holds no picture.
        """
        from roadwork_core.data.unlabelled import UNLABELLED

        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise DataError("no such folder" if not root.exists() else "not a folder", path=root, hint="mend its root")
        endings = tuple(ending.lower() for ending in self.extensions)
        files = files_below(root)
        taken = [path for path in files if path.name.lower().endswith(endings)]
        if not taken:
            raise DataError(
                "this folder holds no pictures",
                path=root,
                hint=f"add what its files end in to extensions ({', '.join(self.extensions)})",
            )
        if passed := len(files) - len(taken):
            ctx.report(f"unlabelled_folder: passed over {passed} files that are not pictures")
        return [
            Sample(path=path, label=UNLABELLED, source=self.source, group=self._group(root, path)) for path in taken
        ]

    def _group(self, root: Path, path: Path) -> str | None:
        folder = path.parent.relative_to(root)
        return folder.as_posix() if self.group_folders and folder.parts else None
