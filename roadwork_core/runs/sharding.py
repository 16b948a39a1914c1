"""Whether the processes of a run divide the weights among them, as their launcher or the command line says."""

from __future__ import annotations

import os

from roadwork_core.errors import UsageError

#: Set in a process that holds a share of the weights while it trains.
SHARED_WEIGHTS = "ROADWORK_SHARED_WEIGHTS"
#: What `accelerate launch` sets for ways of dividing a model that a run does not know.
_REFUSED = ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM", "ACCELERATE_USE_PARALLELISM_CONFIG")
_FSDP = "ACCELERATE_USE_FSDP"
#: Settings of `accelerate launch --use_fsdp` that have one value here, with what to do instead of another one.
_FSDP_SETTINGS = (
    ("FSDP_VERSION", "1", "2", "pass --fsdp_version 2"),
    ("FSDP_RESHARD_AFTER_FORWARD", "true", "true", "leave it out: weights are shared out again after each block"),
    ("FSDP_OFFLOAD_PARAMS", "false", "false", "leave it out: weights stay on their device"),
    ("FSDP_ACTIVATION_CHECKPOINTING", "false", "false", "set backbone.gradient_checkpointing = true in the spec"),
)
_HINT = "FSDP2 can: `accelerate launch --use_fsdp --fsdp_version 2`; an adapter such as lora needs less memory as well"


def settle_sharding(wanted: bool) -> None:
    """Reads from the environment, or from `wanted`, whether this process is to hold a share of the weights.

    Raises UsageError for a method or a setting that a run does not have.
    """
    for name in _REFUSED:
        if _is_on(name):
            method = name.removeprefix("ACCELERATE_USE_")
            raise UsageError(f"{method} divides the model in a way that a run does not know", hint=_HINT)
    if _is_on(_FSDP):
        for name, default, only, hint in _FSDP_SETTINGS:
            if (found := os.environ.get(name, default).lower()) != only:
                raise UsageError(f"a run shares out its weights with {name}={only}, not {found}", hint=hint)
        # Weights are shared out by torch itself, the same way on every device. Accelerate must not do it once more,
        # nor transformers leave the weights out of every process but the first.
        del os.environ[_FSDP]
        wanted = True
    if wanted:
        os.environ[SHARED_WEIGHTS] = "true"


def shares_weights() -> bool:
    """Whether `settle_sharding` has found that this process is to hold a share of the weights."""
    return _is_on(SHARED_WEIGHTS)


def _is_on(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("1", "true", "yes")
