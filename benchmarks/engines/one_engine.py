"""One engine in a process of its own: it starts, answers and is timed. Prints when it first answered, then figures."""

from __future__ import annotations

import argparse
import json
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from artefacts import EXPORTS

Ask = Callable[[bytes], Any]
_PICTURES = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("artefact", type=Path, help="what the engine runs: the bundle itself, or what was made of it")
    parser.add_argument("rows", type=Path)
    parser.add_argument("--logits", type=Path, help="where the logits of the labelled set go; only start without it")
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    rows = json.loads(options.rows.read_text())
    pictures = [Path(path).read_bytes() for path, _, _ in rows[:: max(1, len(rows) // _PICTURES)]]
    predictor = make(options.engine, options.bundle, options.artefact)
    ask(predictor)(pictures[0])
    print(json.dumps({"answered": time.time()}), flush=True)
    if options.logits is None:
        return
    found: dict[str, Any] = {"network": network_ms(predictor, options.seconds)}
    found |= alone(ask(predictor), pictures, options.seconds)
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    others = [predictor, make(options.engine, options.bundle, options.artefact)]
    found["rate2"] = together([ask(one) for one in others], pictures, options.seconds)
    np.save(options.logits, np.concatenate([logits(predictor, path) for path, _, _ in rows]))
    print(json.dumps(found), flush=True)


def make(engine: str, bundle: Path, artefact: Path) -> Any:
    """What predicts with the engine, on one thread."""
    if engine in EXPORTS:
        from roadwork_exporters.onnx_runtime import load as load_onnx

        return load_onnx(artefact, threads=1, batch_size=1)
    import torch

    from roadwork_core.bundle import Predictor, load
    from roadwork_core.bundle.runtime import Runtime
    from roadwork_core.inference import Scorer

    torch.set_num_threads(1)
    backend = "onnx" if engine == "ONNX in the bundle" else "torch"
    predictor = load(bundle, device="cpu", backend=backend, workers=1)
    if engine in ("eager", "ONNX in the bundle"):
        return predictor
    runtime = predictor.runtime
    network: Any = runtime.scorer.model
    if engine == "torch.compile":
        network = torch.compile(network, dynamic=False)
    elif engine == "torch.export":
        network = torch.export.load(artefact).module()
    elif engine == "AOTInductor":
        network = torch._inductor.aoti_load_package(str(artefact))
    scorer = Scorer(_Network(network), runtime.scorer.preprocessing, runtime.scorer.tta, device="cpu", workers=1)
    return Predictor(Runtime(bundle=runtime.bundle, scorer=scorer, decider=runtime.decider))


def _Network(function: Any) -> Any:
    """A module around what may be none, or one that refuses to leave training mode, as the exported ones do."""
    from torch import nn

    class Network(nn.Module):
        def forward(self, pixels: Any) -> Any:
            return function(pixels)

    return Network()


def ask(predictor: Any) -> Ask:
    return lambda picture: predictor.predict([picture])


def network_ms(predictor: Any, seconds: float) -> float:
    """Median milliseconds of the network alone for one input."""
    if hasattr(predictor, "session"):
        inputs = np.zeros((1, 3, *predictor.preprocessing.size), dtype=np.float32)
        run = lambda: predictor.session.run(None, {"pixel_values": inputs})  # noqa: E731
        return _median(run, seconds / 2)
    import torch

    scorer = predictor.runtime.scorer
    pixels = torch.zeros(1, 3, *scorer.preprocessing.size)
    return _median(lambda: scorer.network(pixels), seconds / 2)


def _median(run: Callable[[], Any], seconds: float) -> float:
    return float(1000 * np.median(_times(lambda _: run(), [b""], seconds)))


def _times(run: Callable[[bytes], Any], pictures: list[bytes], seconds: float) -> list[float]:
    run(pictures[0])
    times: list[float] = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        run(pictures[len(times) % len(pictures)])
        times.append(time.perf_counter() - start)
    return times


def alone(run: Ask, pictures: list[bytes], seconds: float) -> dict[str, float]:
    """One worker, one thread, from file bytes to decision: pictures a second, 50th and 99th percentile in ms."""
    times = _times(run, pictures, seconds)
    p50, p99 = np.percentile(times, [50, 99])
    return {"rate": len(times) / sum(times), "p50": 1000 * p50, "p99": 1000 * p99, "timed": len(times)}


def together(runs: list[Ask], pictures: list[bytes], seconds: float) -> float:
    """Pictures a second of several workers in threads of this process."""
    counts = [0] * len(runs)
    start = time.perf_counter()
    end = start + seconds

    def loop(worker: int) -> None:
        while time.perf_counter() < end:
            runs[worker](pictures[counts[worker] % len(pictures)])
            counts[worker] += 1

    for run in runs:
        run(pictures[0])
    start = time.perf_counter()
    end = start + seconds
    threads = [threading.Thread(target=loop, args=(worker,)) for worker in range(len(runs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start)


def logits(predictor: Any, path: str) -> Any:
    """Logits (1, C) of one picture of the labelled set."""
    from roadwork_core.data.decode import decode

    if hasattr(predictor, "session"):
        from roadwork_exporters.pictures import picture

        side = max(predictor.preprocessing.min_side, predictor.tta.min_side)
        return predictor.logits([picture(decode(Path(path), min_side=side))])
    import torch

    scorer = predictor.runtime.scorer
    pixels = decode(Path(path), min_side=scorer.min_side)
    return scorer.logits([torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))])


if __name__ == "__main__":
    sys.exit(main())
