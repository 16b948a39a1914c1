"""Samples that the tests of this package draw, and policies fitted to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from roadwork_policies import Hybrid, Platt, Scrc, Temperature, Threshold

from roadwork_core.kinds import Policy, PolicyContext


def _draw(
    n: int, *, prior: float = 0.5, distance: float = 2.0, scale: float = 2.0, classes: int = 2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    others = [index for index in range(classes) if index != 1]
    labels = np.where(rng.random(n) < prior, 1, rng.choice(others, size=n))
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), labels] += distance
    return logits * scale, labels.astype(np.int64)


def _context(
    logits: np.ndarray,
    labels: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    seed: int = 0,
    positive: int = 1,
    members: dict[str, Policy] | None = None,
) -> PolicyContext:
    return PolicyContext(
        logits=logits,
        labels=labels,
        groups=groups,
        classes=tuple(f"class_{index}" for index in range(logits.shape[1])),
        positive=positive,
        seed=seed,
        members=members or {},
    )


def _threshold(**options: Any) -> Threshold:
    chosen: dict[str, Any] = {"calibrator": Platt(), "bootstrap": 20} | options
    return Threshold(**chosen)


def _scrc(**options: Any) -> Scrc:
    return Scrc(**({"calibrator": Temperature()} | options))


def _three(logits: np.ndarray, labels: np.ndarray, **options: Any) -> dict[str, tuple[Any, Policy]]:
    components: dict[str, Any] = {"threshold": _threshold(), "scrc": _scrc(), "hybrid": Hybrid(**options)}
    fitted: dict[str, Policy] = {}
    for name, component in components.items():
        fitted[name] = component.build(_context(logits, labels, members=dict(fitted)))
    return {name: (components[name], fitted[name]) for name in components}


@pytest.fixture(scope="session")
def draw() -> Callable[..., Any]:
    """Logits (n, classes) of normal scores with labels (n,); class 1 has the share `prior`."""
    return _draw


@pytest.fixture(scope="session")
def context() -> Callable[..., PolicyContext]:
    """A PolicyContext of logits and labels."""
    return _context


@pytest.fixture(scope="session")
def threshold() -> Callable[..., Threshold]:
    """A threshold component with few resamples."""
    return _threshold


@pytest.fixture(scope="session")
def scrc() -> Callable[..., Scrc]:
    """An scrc component."""
    return _scrc


@pytest.fixture(scope="session")
def three() -> Callable[..., Any]:
    """A threshold, an scrc and a hybrid of the two by name, each with its component, fitted to the same samples."""
    return _three
