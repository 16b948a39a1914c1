"""The conformance kit: a plugin author subclasses the contract of a kind, names a component, and runs pytest."""

from __future__ import annotations

from collections.abc import Mapping

from ..kinds import Kind
from .adapters import AdapterContract
from .augmentations import AugmentationContract
from .backbones import BackboneContract
from .contract import ComponentContract, ConformanceError
from .datasets import DatasetContract
from .exporters import ExporterContract
from .heads import HeadContract
from .leaderboards import LeaderboardContract
from .losses import LossContract
from .objectives import ObjectiveContract
from .optimizers import OptimizerContract
from .policies import CalibratorContract, PolicyContract
from .schedulers import SchedulerContract
from .static import static_problems
from .trackers import TrackerContract
from .tta import TtaContract

__all__ = [
    "CONTRACT_CLASSES",
    "AdapterContract",
    "AugmentationContract",
    "BackboneContract",
    "CalibratorContract",
    "ComponentContract",
    "ConformanceError",
    "DatasetContract",
    "ExporterContract",
    "HeadContract",
    "LeaderboardContract",
    "LossContract",
    "ObjectiveContract",
    "OptimizerContract",
    "PolicyContract",
    "SchedulerContract",
    "TrackerContract",
    "TtaContract",
    "static_problems",
]

#: The contract of each kind.
CONTRACT_CLASSES: Mapping[Kind, type[ComponentContract]] = {
    contract.kind: contract
    for contract in (
        DatasetContract,
        AugmentationContract,
        BackboneContract,
        AdapterContract,
        HeadContract,
        LossContract,
        OptimizerContract,
        SchedulerContract,
        ObjectiveContract,
        CalibratorContract,
        PolicyContract,
        TtaContract,
        TrackerContract,
        ExporterContract,
        LeaderboardContract,
    )
}
