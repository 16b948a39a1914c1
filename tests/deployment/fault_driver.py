"""Deploys in forked children, each killed just before its n-th change of a file; prints how each left the folder.

Usage: python -m tests.deployment.fault_driver TEMPLATE WORK BUNDLE ID. TEMPLATE is copied to WORK for every child.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from roadwork_core.bundle import Level, verify
from roadwork_core.deployment import Deployment
from tests.faults import kill_before


def deploy(work: Path, bundle: Path, bundle_id: str) -> None:
    deployment = Deployment(work)
    with deployment.locked():
        version = deployment.store(bundle, bundle_id)
        entry = {"time": "2026-01-01T00:00:00", "event": "deploy", "who": "me", "why": "", "bundle_id": bundle_id}
        deployment.switch(version, entry)
        deployment.prune(2)


def state(work: Path) -> dict[str, Any]:
    deployment = Deployment(work)
    version = deployment.current()
    found = verify(work / "current", Level.SCHEMA) if version else None
    return {
        "version": version,
        "works": bool(found and found.ok),
        "history": [entry["version"] for entry in deployment.history()],
        "left": sorted(path.name for path in (*work.glob(".*"), *(work / "versions").glob(".*"))),
        "versions": deployment.names() if (work / "versions").is_dir() else [],
    }


def main(template: Path, work: Path, bundle: Path, bundle_id: str) -> None:
    for limit in range(1, 1000):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(template, work, symlinks=True)
        process = os.fork()
        if process == 0:
            kill_before(limit)
            deploy(work, bundle, bundle_id)
            os._exit(0)
        _, status = os.waitpid(process, 0)
        if os.WIFEXITED(status):
            print(json.dumps({"end": limit, "code": os.WEXITSTATUS(status)}))  # noqa: T201
            return
        killed = state(work)
        deploy(work, bundle, bundle_id)
        print(json.dumps({"killed": killed, "again": state(work)}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
