"""Which number format a device computes in, said out loud, and the Accelerator that follows from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen

from roadwork_core.errors import Problem, SpecError

if TYPE_CHECKING:
    from accelerate import Accelerator

KEY = "train.precision"


class Precision(StrEnum):
    """Format of the forward and backward pass; weights, loss, softmax and metrics stay in float32."""

    BF16 = "bf16"
    FP16 = "fp16"
    FP32 = "fp32"


@frozen(kw_only=True)
class PrecisionChoice:
    """The format taken on `device`. `note` explains it to a reader; `warning` says that it will cost them something."""

    precision: Precision
    device: torch.device
    note: str | None = None
    warning: str | None = None

    @property
    def mixed_precision(self) -> str:
        """The name that Accelerate has for it."""
        return "no" if self.precision is Precision.FP32 else self.precision.value


def native_bf16(device: torch.device) -> bool:
    """Whether the device computes bfloat16 in hardware, emulation not counted."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return any(bool(able.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    if device.type == "xpu":
        return bool(torch.xpu.is_bf16_supported())
    return False


def choose_precision(requested: str, device: torch.device, *, native: bool | None = None) -> PrecisionChoice:
    """The format for `requested`, one of bf16, fp16, fp32 and auto.

    `auto` is bf16 where an accelerator computes it natively and fp32 everywhere else (never fp16, in which
    DINOv3 overflows; never bf16 on a CPU, where it is slower than fp32 on most). What is asked for by name is obeyed.
    `native` replaces the look at the device, for tests. Raises SpecError for fp16 on a CPU.
    """
    able = native_bf16(device) if native is None else native
    if requested == "auto":
        if device.type != "cpu" and able:
            return PrecisionChoice(precision=Precision.BF16, device=device, note=f"precision: bf16 on {device.type}")
        reason = "the CPU" if device.type == "cpu" else f"{device.type}, which does not compute bf16 natively"
        return PrecisionChoice(precision=Precision.FP32, device=device, note=f"precision: fp32 on {reason}")
    precision = Precision(requested)
    if precision is Precision.FP16 and device.type == "cpu":
        raise SpecError(
            [Problem("fp16 needs an accelerator, and there is none here", key=KEY, hint='use "fp32" or "auto"')]
        )
    warning = None
    if precision is Precision.BF16 and not able:
        warning = f'{KEY} = "bf16" is emulated on this {device.type} and slower than "fp32", about 13 times on a CPU'
    return PrecisionChoice(precision=precision, device=device, warning=warning)


def make_accelerator(
    requested: str,
    *,
    trackers: Callable[[], Sequence[Any]] = tuple,
    folder: Path | None = None,
    unused_parameters: bool = False,
) -> tuple[Any, Any]:
    """(Accelerator, PrecisionChoice) for the device that Accelerate finds.

    `trackers` makes what `log_with` takes, in the main process alone; built-in ones write below `folder`. A process may
    make several, one after the other, in different formats. `unused_parameters`: some of the model's take no part.
    """
    from accelerate import Accelerator, PartialState
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedDataParallelKwargs, ProjectConfiguration, parse_flag_from_env

    processes = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
    choice = choose_precision(requested, processes.device)
    # Accelerate keeps the first format of a process for good; a second run of the same process may want another.
    AcceleratorState._reset_state()
    project = ProjectConfiguration(logging_dir=str(folder)) if folder else None
    accelerator = Accelerator(
        mixed_precision=choice.mixed_precision,
        log_with=list(trackers() if processes.is_main_process else ()) or None,
        project_config=project,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)] if unused_parameters else None,
    )
    return accelerator, choice


def scaler_of(accelerator: Accelerator) -> torch.amp.GradScaler | None:
    """The gradient scaler, where the format needs one (fp16)."""
    scaler: torch.amp.GradScaler | None = accelerator.scaler
    return scaler
