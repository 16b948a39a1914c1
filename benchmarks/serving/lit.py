"""LitServe as its documentation shows it: `python lit.py BUNDLE PORT WORKERS`."""

from __future__ import annotations

import base64
import sys
from typing import Any

import litserve as ls
import torch

from roadwork_core.bundle import load


class Api(ls.LitAPI):  # type: ignore[misc]
    """A process a worker, each with a copy of the model; no batches."""

    def setup(self, device: str) -> None:
        torch.set_num_threads(1)
        self.predictor = load(sys.argv[1], device="cpu", workers=1)

    def decode_request(self, request: dict[str, str]) -> bytes:
        return base64.b64decode(request["image"])

    def predict(self, image: bytes) -> dict[str, Any]:
        return self.predictor.predict([image])[0].to_json()

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    server = ls.LitServer(Api(), accelerator="cpu", workers_per_device=int(sys.argv[3]), timeout=120)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="error")
