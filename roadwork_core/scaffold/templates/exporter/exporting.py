"""The exporter itself."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file
from torch import nn


def write_weights(model: nn.Module, prefix: str, path: Path) -> int:
    """Writes every parameter and buffer, and returns how many there are."""
    tensors = {f"{prefix}{name}": tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    save_file(tensors, path)
    return len(tensors)
