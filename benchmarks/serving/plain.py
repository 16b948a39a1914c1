"""FastAPI and uvicorn as most would write it: `python plain.py BUNDLE PORT WORKERS`."""

from __future__ import annotations

import asyncio
import base64
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request

from roadwork_core.bundle import Predictor, load


def plain(bundle: str, port: int, workers: int) -> None:
    """Serves the bundle: the model in a pool of threads, whatever comes is taken on."""
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


if __name__ == "__main__":
    plain(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
