"""The manifest that ends a stage: what went in, what came out, and with which versions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from attrs import Factory, frozen

from roadwork_core.files import pretty_json, sha256_file, write_atomic

SCHEMA = "roadwork.stage/1"
FILE = "manifest.json"


@frozen(kw_only=True)
class StageManifest:
    """Written last and atomically: a stage folder with a manifest is a finished stage.

    `inputs` maps "stage/path" to sha256; `outputs` maps a path in the stage's folder to its sha256 and size in bytes.
    """

    stage: str
    fingerprint: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, Mapping[str, Any]]
    metrics: Mapping[str, Any]
    started: str
    seconds: float
    versions: Mapping[str, str]
    git: Mapping[str, Any] | None = None
    schema: str = SCHEMA
    notes: Mapping[str, Any] = Factory(dict)

    def write(self, folder: Path) -> None:
        write_atomic(folder / FILE, pretty_json(attrs.asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> StageManifest | None:
        """The manifest of a finished stage, or None where there is none that can be understood."""
        try:
            document = json.loads((folder / FILE).read_bytes())
            manifest = cls(**document)
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        return manifest if manifest.schema == SCHEMA and manifest._is_whole() else None

    def _is_whole(self) -> bool:
        """Whether every value is of its type: a file that somebody changed is no manifest."""
        return (
            all(isinstance(text, str) for text in (self.stage, self.fingerprint, self.started))
            and isinstance(self.seconds, int | float)
            and all(isinstance(table, dict) for table in (self.inputs, self.outputs, self.metrics, self.versions))
            and all(
                isinstance(output, dict) and {"sha256", "size"} <= output.keys() for output in self.outputs.values()
            )
        )

    def intact(self, folder: Path) -> bool:
        """Whether every output is there with its bytes unchanged."""
        return self.damaged(folder) is None

    def damaged(self, folder: Path) -> str | None:
        """The first output that is missing or has other bytes than were written, None where there is none."""
        for name, expected in self.outputs.items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != expected["size"]:
                return name
            if sha256_file(path) != expected["sha256"]:
                return name
        return None


def digest_outputs(folder: Path) -> dict[str, dict[str, Any]]:
    """sha256 and size of every file below a stage's folder but its manifest, by relative path."""
    return {
        path.relative_to(folder).as_posix(): {"sha256": sha256_file(path), "size": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / FILE
    }
