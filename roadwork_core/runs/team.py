"""Several processes on one run: the first one writes, the others take part where it calls them."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from attrs import define, field

from roadwork_core.errors import RoadworkError, UsageError

from .sharding import settle_sharding

#: Set by `roadwork run --processes` for the processes that it starts: where they meet, and the end of a pipe that
#: closes when they are to end.
MEETING, LIFELINE = "ROADWORK_MEETING", "ROADWORK_LIFELINE"
#: Another process may be long at work on its own before it comes to the next common step.
PATIENCE = timedelta(hours=12)
POLL = 0.05
#: Seconds within which somebody must have said why the run fails, before a process that lost another speaks itself.
EXPLANATION = 5.0
#: Seconds that a process has to end in good order once the others are gone.
GRACE = 10.0


class Messages(Protocol):
    """What is used of torch.distributed's stores."""

    def set(self, key: str, value: str) -> None: ...

    def get(self, key: str) -> bytes: ...

    def check(self, keys: list[str]) -> bool: ...

    def add(self, key: str, amount: int) -> int: ...


@define(kw_only=True)
class Team:
    """What one of `world` processes, number `rank`, knows of the others."""

    rank: int
    world: int
    _store: Messages
    _options: Mapping[str, Any]
    _calls: int = field(init=False, default=0)
    #: Whether the process that watches over this one ended, or closed the lifeline.
    abandoned: bool = field(init=False, default=False)

    @property
    def leads(self) -> bool:
        """Whether this is the process that holds the lock and writes."""
        return self.rank == 0

    def connect(self, *, shared_weights: bool = False) -> None:
        """Makes the process group that torch and Accelerate compute in; `shared_weights`: each holds a share of them.

        Raises UsageError where there are more processes than devices, or for a launcher's way to divide a model that a
        run does not have.
        """
        settle_sharding(shared_weights)
        _choose_device()
        from accelerate import PartialState
        from accelerate.utils import parse_flag_from_env

        PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=PATIENCE, **self._options)

    def call(self, stage: str, fingerprint: str) -> None:
        """The others take part in this stage from now on."""
        self._calls += 1
        self._store.set(f"call/{self._calls}", json.dumps([stage, fingerprint]))

    def finish(self, code: int) -> None:
        """Lets the others end, with this exit code."""
        self._calls += 1
        self._store.set("code", str(code))
        self._store.set(f"call/{self._calls}", "null")

    def next_call(self) -> tuple[str, str] | None:
        """(stage, fingerprint) once the leader calls to it; None when there is nothing more to do."""
        self._calls += 1
        key = f"call/{self._calls}"
        while not self._store.check([key]):
            if self._store.check(["failed"]):
                return None
            time.sleep(POLL)
        found = json.loads(self._store.get(key))
        return None if found is None else (found[0], found[1])

    def code(self) -> int:
        """The exit code that the leader, or the one who failed first, has set."""
        for key in ("failed", "code"):
            if self._store.check([key]):
                return int(self._store.get(key))
        return 1

    def speaks(self, code: int) -> bool:
        """Whether this process is the first to fail, and so the one that says why; `code` becomes that of all."""
        if self._store.add("claims", 1) > 1:
            return False
        self._store.set("failed", str(code))
        return True

    def explained(self) -> bool:
        """Whether another process says why the run fails, or whoever started this one does; waits a little for it."""
        until = time.monotonic() + EXPLANATION
        while time.monotonic() < until:
            if self.abandoned or self._store.check(["failed"]):
                return True
            time.sleep(POLL)
        return False

    def leave(self) -> None:
        """Closes the connections to the others, in good order."""
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()

    def watch(self, descriptor: int) -> None:
        """Ends this process, as SIGTERM would, when the other end of the pipe `descriptor` is closed."""

        def wait() -> None:
            while os.read(descriptor, 1):
                pass
            self.abandoned = True
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(GRACE)
            os._exit(1)

        threading.Thread(target=wait, daemon=True, name="lifeline").start()


def is_shared() -> bool:
    """Whether a launcher (`roadwork run --processes`, `accelerate launch`, `torchrun`) started this and others."""
    world = os.environ.get("WORLD_SIZE", "")
    return world.isdigit() and int(world) > 1 and os.environ.get("RANK", "").isdigit()


def join() -> Team:
    """Finds the other processes, to speak with; `Team.connect` prepares them to compute together."""
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    messages, options = _meet(rank, world)
    team = Team(rank=rank, world=world, store=messages, options=options)
    if lifeline := os.environ.get(LIFELINE):
        team.watch(int(lifeline))
    return team


def is_loss(error: BaseException) -> bool:
    """Whether a library says by this error that another process is gone."""
    import torch.distributed as dist

    text = str(error)
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in text for word in ("gloo", "Gloo", "NCCL", "Connection closed"))
    )


def loss_of_another() -> RoadworkError:
    """What a process says that lost another and does not know why."""
    return RoadworkError(
        "another process of this run ended before its time", hint="the same command goes on from the last checkpoint"
    )


def _meet(rank: int, world: int) -> tuple[Messages, dict[str, Any]]:
    """The store for messages, and what `init_process_group` is told beside the backend."""
    import torch.distributed

    # torch exports its stores here without saying so in its types.
    dist: Any = torch.distributed
    if folder := os.environ.get(MEETING):
        if sys.platform.startswith("linux"):
            # Processes of one machine need no other way to each other, and no open port.
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        messages = dist.FileStore(str(Path(folder) / "messages"), world)
        place = (Path(folder) / "group").as_uri()
        return messages, {"init_method": place, "rank": rank, "world_size": world}
    # The first process, or the agent of torchrun and accelerate launch, keeps a store at this address.
    by_agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    served = rank == 0 and not by_agent
    base = dist.TCPStore(address, port, world, is_master=served, wait_for_workers=False, timeout=timedelta(minutes=10))
    group = dist.PrefixStore("group", base)
    return dist.PrefixStore("roadwork", base), {"store": group, "rank": rank, "world_size": world}


def _choose_device() -> None:
    import torch

    if os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes"):
        return
    if not torch.cuda.is_available():
        # Accelerate takes the CPU for several processes only when it is told to.
        os.environ["ACCELERATE_USE_CPU"] = "true"
        return
    local, devices = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if local > devices:
        raise UsageError(
            f"{local} processes need as many GPUs, and there {'is' if devices == 1 else 'are'} {devices}",
            hint="start fewer, or set ACCELERATE_USE_CPU=true to compute on the CPU",
        )
