"""Servers of the same bundle without roadwork's server: `python contenders.py plain|litserve BUNDLE PORT WORKERS`."""

from __future__ import annotations

import base64
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from roadwork_core.bundle import Predictor, load


def plain(bundle: str, port: int, workers: int) -> None:
    """FastAPI and uvicorn as most would write it: the model in a pool of threads, whatever comes is taken on."""
    import asyncio

    import uvicorn
    from fastapi import FastAPI, Request

    torch.set_num_threads(1)
    loaded = load(bundle, device="cpu", workers=workers)
    pool = ThreadPoolExecutor(workers)
    app = FastAPI()

    def decide(image: str) -> dict[str, Any]:
        return Predictor(loaded.runtime).predict([base64.b64decode(image)])[0].to_json()

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        document = await request.json()
        return await asyncio.get_running_loop().run_in_executor(pool, decide, document["image"])

    @app.get("/health")
    async def health() -> str:
        return "ok"

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


def litserve(bundle: str, port: int, workers: int) -> None:
    """LitServe as its documentation shows it: a process a worker, each with a copy of the model; no batches."""
    import litserve as ls

    class Api(ls.LitAPI):  # type: ignore[misc]
        def setup(self, device: str) -> None:
            torch.set_num_threads(1)
            self.predictor = load(bundle, device="cpu", workers=1)

        def decode_request(self, request: dict[str, str]) -> bytes:
            return base64.b64decode(request["image"])

        def predict(self, image: bytes) -> dict[str, Any]:
            return self.predictor.predict([image])[0].to_json()

        def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
            return output

    server = ls.LitServer(Api(), accelerator="cpu", workers_per_device=workers, timeout=120)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="error")


if __name__ == "__main__":
    {"plain": plain, "litserve": litserve}[sys.argv[1]](sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
