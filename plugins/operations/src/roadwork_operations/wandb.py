"""Accelerate's Weights & Biases tracker, offline in the tracker's folder unless it is told to send."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate.tracking import WandBTracker, on_main_process

from roadwork_core.files import digest_json, pretty_json, write_atomic

#: What a resumed training goes on with: `id` of the W&B run, `step` last told, `config` as a digest.
NOTED = "roadwork.json"


class RunWandb(WandBTracker):  # type: ignore[misc]
    """Writes into one W&B run for as long as the configuration stays the same, each step once.

    A training that goes on from its checkpoint repeats steps with the same values: those that were told are left out.
    Offline, a resumption is a second folder of the same run, which `wandb sync` joins to the first.
    """

    #: Made by `start`.
    run: Any = None

    def __init__(self, run_name: str, folder: Path, *, mode: str, project: str | None, entity: str | None) -> None:
        super().__init__(project or run_name, dir=str(folder), mode=mode, name=run_name, entity=entity)
        self.folder = folder
        self._noted: dict[str, Any] = {}

    @on_main_process  # type: ignore[untyped-decorator]
    def start(self) -> None:
        # Read when wandb is imported first.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self.folder.mkdir(parents=True, exist_ok=True)
        self._noted = _read(self.folder / NOTED) or {"id": uuid.uuid4().hex[:8], "step": -1, "config": None}
        self.init_kwargs |= {
            "id": self._noted["id"],
            "resume": "allow" if self.init_kwargs["mode"] == "online" else None,
            # What a run is told, and nothing of the machine or of the code beside it.
            "settings": wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                disable_code=True,
                x_disable_machine_info=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        }
        super().start()
        self._note()

    @on_main_process  # type: ignore[untyped-decorator]
    def store_init_configuration(self, values: Mapping[str, Any]) -> None:
        digest = digest_json(dict(values))
        if self._noted["config"] not in (None, digest):
            self.run.finish()
            (self.folder / NOTED).unlink()
            self.start()
        self._noted["config"] = digest
        self._note()
        super().store_init_configuration(dict(values))

    @on_main_process  # type: ignore[untyped-decorator]
    def log(self, values: Mapping[str, Any], step: int | None = None, **options: Any) -> None:
        if step is not None and step <= self._noted["step"]:
            return
        super().log({key: value for key, value in values.items() if value is not None}, step=step, **options)
        if step is not None:
            self._noted["step"] = step
            self._note()

    def _note(self) -> None:
        write_atomic(self.folder / NOTED, pretty_json(self._noted))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.keys() >= {"id", "step", "config"} else None
