"""The kinds of component, and for each kind what its `build` is given and what it must make."""

from __future__ import annotations

from collections.abc import Mapping

from .data import AugmentationComponent, AugmentationContext, DatasetComponent, DatasetContext
from .deciding import (
    Calibrator,
    CalibratorComponent,
    CalibratorContext,
    Policy,
    PolicyComponent,
    PolicyContext,
    PolicyRestoreContext,
    Tta,
    TtaComponent,
    TtaContext,
)
from .kind import Kind, Report
from .model import (
    Adapted,
    AdapterComponent,
    AdapterContext,
    Backbone,
    BackboneComponent,
    BackboneContext,
    HeadComponent,
    HeadContext,
    TokenBackbone,
    TokenHead,
)
from .surroundings import (
    Entry,
    ExporterComponent,
    ExporterContext,
    Leaderboard,
    LeaderboardComponent,
    LeaderboardContext,
    TrackerComponent,
    TrackerContext,
)
from .training import (
    LossComponent,
    LossContext,
    Objective,
    ObjectiveComponent,
    ObjectiveContext,
    OptimizerComponent,
    OptimizerContext,
    ParamGroup,
    SchedulerComponent,
    SchedulerContext,
    StagedLoss,
)

__all__ = [
    "CONTRACTS",
    "Adapted",
    "AdapterComponent",
    "AdapterContext",
    "AugmentationComponent",
    "AugmentationContext",
    "Backbone",
    "BackboneComponent",
    "BackboneContext",
    "Calibrator",
    "CalibratorComponent",
    "CalibratorContext",
    "DatasetComponent",
    "DatasetContext",
    "Entry",
    "ExporterComponent",
    "ExporterContext",
    "HeadComponent",
    "HeadContext",
    "Kind",
    "Leaderboard",
    "LeaderboardComponent",
    "LeaderboardContext",
    "LossComponent",
    "LossContext",
    "Objective",
    "ObjectiveComponent",
    "ObjectiveContext",
    "OptimizerComponent",
    "OptimizerContext",
    "ParamGroup",
    "Policy",
    "PolicyComponent",
    "PolicyContext",
    "PolicyRestoreContext",
    "Report",
    "SchedulerComponent",
    "SchedulerContext",
    "StagedLoss",
    "TokenBackbone",
    "TokenHead",
    "TrackerComponent",
    "TrackerContext",
    "Tta",
    "TtaComponent",
    "TtaContext",
]

#: The kinds of component of this release, with the protocol of each. Exporters are named by `roadwork export`, the
#: others by a spec.
CONTRACTS: Mapping[Kind, type] = {
    Kind.DATASET: DatasetComponent,
    Kind.AUGMENTATION: AugmentationComponent,
    Kind.BACKBONE: BackboneComponent,
    Kind.ADAPTER: AdapterComponent,
    Kind.HEAD: HeadComponent,
    Kind.LOSS: LossComponent,
    Kind.OPTIMIZER: OptimizerComponent,
    Kind.SCHEDULER: SchedulerComponent,
    Kind.OBJECTIVE: ObjectiveComponent,
    Kind.CALIBRATOR: CalibratorComponent,
    Kind.POLICY: PolicyComponent,
    Kind.TTA: TtaComponent,
    Kind.TRACKER: TrackerComponent,
    Kind.EXPORTER: ExporterComponent,
    Kind.LEADERBOARD: LeaderboardComponent,
}
