"""Predictions by actors on a Ray cluster: what one machine says, in its order, line for line."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import Factory, define, evolve, field, frozen

from ..backends import resolve
from ..errors import RoadworkError
from ..plugins import Plugins
from ..ray_cluster import connected, needs_of, room_for
from .format import Bundle, Level
from .images import Source
from .verify import verify

if TYPE_CHECKING:
    from .predictor import Prediction, Predictor

#: Batches in a shard: what an actor is given at a time, and what is done again when it dies.
BATCHES = 4
#: Shards per actor that are held here, done ones that wait for their turn included.
_HELD = 3
#: How often a shard is given to a fresh actor before it is taken apart to find the picture that kills it.
_ATTEMPTS = 2
#: Actors, per actor that is wanted, that may die in a row before it is no picture's fault.
_DEATHS = 20


@frozen(kw_only=True)
class Asked:
    """What is asked of every shard."""

    mode: str | None
    policy: str | None
    must_answer: bool
    batch_size: int


class Scorer:
    """An actor: loads the bundle when it gets its first shard, then predicts shard by shard."""

    def __init__(self, bundle: Path, bundle_id: str, computing: Mapping[str, Any]) -> None:
        self._bundle, self._id, self._computing = bundle, bundle_id, computing
        self._predictor: Predictor | None = None

    def predict(self, sources: Sequence[Source], asked: Asked) -> tuple[list[Prediction], Counter[str]]:
        """The predictions of a shard, and by cause what the fallback policy answered.

        Raises RoadworkError where this machine sees another bundle than the one that leads.
        """
        if self._predictor is None:
            self._predictor = self._load()
        before = Counter(self._predictor.fallbacks)
        found = self._predictor.stream(
            sources,
            mode=asked.mode,
            policy=asked.policy,
            must_answer=asked.must_answer,
            batch_size=asked.batch_size,
        )
        return list(found), self._predictor.fallbacks - before

    def _load(self) -> Predictor:
        from .predictor import load

        host = os.uname().nodename
        if not self._bundle.is_dir():
            raise RoadworkError(
                f"{host} does not see this bundle", path=self._bundle, hint="it must lie where all machines see it"
            )
        predictor = load(self._bundle, **self._computing)
        if predictor.bundle.id != self._id:
            raise RoadworkError(f"{host} has another bundle here, {predictor.bundle.id[:12]}", path=self._bundle)
        return predictor


@define
class _Shard:
    sources: list[Source]
    attempts: int = 0
    found: list[Prediction] | None = None
    #: What it was taken apart into.
    parts: list[_Shard] = Factory(list)

    def is_done(self) -> bool:
        return self.found is not None or (bool(self.parts) and all(part.is_done() for part in self.parts))

    def predictions(self) -> list[Prediction]:
        return self.found or [found for part in self.parts for found in part.predictions()]


@define(kw_only=True)
class RayPredictor:
    """Predicts with as many actors as are asked for; like `Predictor`, with `bundle`, `stream` and `fallbacks`.

    `scorer` and `needs` ("CPU", "GPU") say what an actor is and takes.
    """

    ray: Any
    bundle: Bundle
    actors: int
    needs: Mapping[str, float]
    #: Of `load`: device, backend, batch_size, workers, threads.
    computing: Mapping[str, Any]
    scorer: type = Scorer
    fallbacks: Counter[str] = Factory(Counter)
    #: Actors that died since one last came to the end of a shard.
    _deaths: int = field(default=0, init=False)

    @property
    def backend(self) -> str:
        """What computes the network, in every actor."""
        return str(self.computing["backend"])

    def stream(
        self,
        sources: Iterable[Source],
        *,
        mode: str | None = None,
        policy: str | None = None,
        must_answer: bool = False,
        batch_size: int = 32,
    ) -> Iterator[Prediction]:
        """Predictions in the order of `sources`, of which no more than a few shards per actor are held.

        A picture that cannot be read is a prediction with `error`, and so is one on which actors die again and again.
        Raises UsageError for a policy that the bundle lacks, RoadworkError where an actor cannot load the bundle.
        """
        self.bundle.policy_for(mode=mode, policy=policy)
        asked = Asked(mode=mode, policy=policy, must_answer=must_answer, batch_size=batch_size)
        return self._ordered(iter(sources), asked, BATCHES * batch_size)

    def _ordered(self, sources: Iterator[Source], asked: Asked, size: int) -> Iterator[Prediction]:
        order: deque[_Shard] = deque()
        waiting: deque[_Shard] = deque()
        idle = [self._actor() for _ in range(self.actors)]
        working: dict[Any, tuple[Any, _Shard]] = {}
        try:
            while True:
                while len(order) < _HELD * self.actors and (taken := list(islice(sources, size))):
                    shard = _Shard(taken)
                    order.append(shard)
                    waiting.append(shard)
                while idle and waiting:
                    actor, shard = idle.pop(), waiting.popleft()
                    working[actor.predict.remote([_absolute(one) for one in shard.sources], asked)] = actor, shard
                while order and order[0].is_done():
                    yield from order.popleft().predictions()
                if not order:
                    return
                if working:
                    for task in self.ray.wait(list(working))[0]:
                        actor, shard = working.pop(task)
                        idle.append(self._settle(task, actor, shard, waiting))
        finally:
            for actor in [*idle, *(actor for actor, _ in working.values())]:
                self.ray.kill(actor)

    def _settle(self, task: Any, actor: Any, shard: _Shard, waiting: deque[_Shard]) -> Any:
        """Takes in what became of a shard; the actor that is free now, a fresh one where it died."""
        from .predictor import Prediction

        errors = self.ray.exceptions
        try:
            found, fallbacks = self.ray.get(task)
        except errors.RayTaskError as error:
            cause = error.cause
            raise cause if isinstance(cause, RoadworkError) else RoadworkError(f"an actor failed: {cause}") from None
        except errors.RayActorError:
            self._deaths += 1
            if self._deaths > _DEATHS * self.actors:
                raise RoadworkError(
                    f"{self._deaths} actors died one after another, and none came to an end of its pictures",
                    hint="see the logs of Ray; is there memory enough for an actor on each machine?",
                ) from None
            shard.attempts += 1
            if shard.attempts < _ATTEMPTS:
                waiting.appendleft(shard)
            elif len(shard.sources) > 1:
                middle = len(shard.sources) // 2
                halves = shard.sources[:middle], shard.sources[middle:]
                # One more death is enough to halve again; a picture alone gets all its attempts.
                shard.parts = [_Shard(half, attempts=_ATTEMPTS - 1 if len(half) > 1 else 0) for half in halves]
                waiting.extendleft(reversed(shard.parts))
            else:
                text = f"the process that looked at it died {shard.attempts} times"
                shard.found = [Prediction(path=shard.sources[0].path, error=text)]
            return self._actor()
        self._deaths = 0
        # Where the picture lies is the machine's business; what was asked for is what is said.
        shard.found = [evolve(one, path=source.path or None) for one, source in zip(found, shard.sources, strict=True)]
        self.fallbacks.update(fallbacks)
        return actor

    def _actor(self) -> Any:
        made = self.ray.remote(self.scorer).options(num_cpus=self.needs["CPU"], num_gpus=self.needs["GPU"])
        return made.remote(self.bundle.path.absolute(), self.bundle.id, dict(self.computing))


@contextmanager
def ray_predictor(
    path: Path | str,
    *,
    device: str = "auto",
    backend: str = "auto",
    batch_size: int | None = None,
    workers: int = 1,
    threads: int = 1,
    actors: int | None = None,
) -> Iterator[RayPredictor]:
    """Actors that predict with the bundle at `path`, as many as the cluster holds unless said otherwise.

    The rest is as in `load`, for each actor, which takes `workers` x `threads` CPUs, and a GPU where the cluster has
    any and `device` is not "cpu". Raises VerificationError with every failure of the bundle's files, UsageError where
    there is no such bundle.
    """
    found = verify(path, Level.SCHEMA, Plugins.load())
    found.raise_for_failures()
    if found.bundle is None:
        raise RoadworkError("the bundle could not be read", path=path)
    with connected() as ray:
        on_cpu = device == "cpu" or backend == "onnx"
        needs = needs_of(ray, float(workers * threads), 0.0 if on_cpu else None)
        # Once for all: actors that each took what their machine has would not give the same bits.
        where = device if device != "auto" else "cuda" if needs["GPU"] else "cpu"
        computes = resolve(backend, carries_onnx=found.bundle.carries_onnx, device=where)
        room = room_for(ray, needs)
        yield RayPredictor(
            ray=ray,
            bundle=found.bundle,
            actors=room if actors is None else min(actors, room),
            needs=needs,
            computing={
                "device": device,
                "backend": computes,
                "batch_size": batch_size,
                "workers": workers,
                "threads": threads,
            },
        )


def _absolute(source: Source) -> Source:
    return source if source.error is not None else Source(str(Path(source.path).absolute()))
