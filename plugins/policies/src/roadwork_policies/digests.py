"""Names for the samples that a promise was taken from."""

from __future__ import annotations

import hashlib

import numpy as np

from roadwork_core.metrics.inputs import Floats, Integers


def sample_digest(logits: Floats, labels: Integers) -> str:
    """sha256 in hex of the samples' float64 logits and int64 labels, in their order."""
    digest = hashlib.sha256(np.ascontiguousarray(logits, dtype="<f8").tobytes())
    digest.update(np.ascontiguousarray(labels, dtype="<i8").tobytes())
    return digest.hexdigest()
