"""The Ray cluster that commands with `--engine ray` work on: the one that runs, or one of this machine alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .errors import RoadworkError, UsageError
from .extras import Requirement, how_to_install, require

#: Where a running cluster is; Ray's own commands read it too.
ADDRESS = "RAY_ADDRESS"


def require_ray() -> None:
    """Raises NotInstalledError with what to install where Ray is missing."""
    require("--engine ray", [Requirement(("ray",), how_to_install("ray"))])


@contextmanager
def connected() -> Iterator[Any]:
    """The module `ray`, connected to the cluster at RAY_ADDRESS, else to one that lives as long as this block.

    A connection that there is already is used and left alone. Nothing is reported to Ray's makers.
    """
    require_ray()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Under `uv run` Ray would copy the working directory, runs and all, and install it anew for its workers.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    import ray

    if ray.is_initialized():
        yield ray
        return
    address = os.environ.get(ADDRESS)
    options: dict[str, Any] = {} if address else {"include_dashboard": False}
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            **options,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        first = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise RoadworkError(
            f"no Ray cluster at {address}: {first}" if address else f"Ray does not start here: {first}",
            hint=f"set {ADDRESS} to the address that `ray start --head` printed, or to nothing",
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def room_for(ray: Any, needs: Mapping[str, float]) -> int:
    """How many workers with these needs ("CPU", "GPU") the cluster holds at once; UsageError where it holds none, or
    where they need nothing, so that there would be no end of them."""
    if not any(amount > 0 for amount in needs.values()):
        raise UsageError("a worker of the Ray cluster must take something: a part of a CPU or of a GPU")
    resources = ray.cluster_resources()
    room = min(int(resources.get(name, 0.0) // amount) for name, amount in needs.items() if amount > 0)
    if room < 1:
        wanted = ", ".join(f"{amount:g} {name}" for name, amount in needs.items() if amount > 0)
        there = ", ".join(f"{resources.get(name, 0.0):g} {name}" for name, amount in needs.items() if amount > 0)
        raise UsageError(f"the Ray cluster has no room for one worker with {wanted}: it has {there}")
    return room


def needs_of(ray: Any, cpus: float | None, gpus: float | None) -> dict[str, float]:
    """What a worker takes: one CPU, and one GPU where the cluster has any, unless said otherwise."""
    has_gpu = ray.cluster_resources().get("GPU", 0.0) > 0
    return {"CPU": 1.0 if cpus is None else cpus, "GPU": float(has_gpu) if gpus is None else gpus}
