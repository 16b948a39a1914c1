"""The number format is what the device computes natively, and is said; what was asked for by name is obeyed."""

from __future__ import annotations

import pytest
import torch

from roadwork_core.errors import SpecError
from roadwork_core.training.precision import Precision, choose_precision, make_accelerator

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize("native", [True, False])
def test_auto_on_a_cpu_is_fp32_and_says_so(native: bool) -> None:
    choice = choose_precision("auto", CPU, native=native)
    assert choice.precision is Precision.FP32
    assert choice.note is not None
    assert "fp32" in choice.note
    assert "CPU" in choice.note
    assert choice.warning is None


def test_auto_is_bf16_on_an_accelerator_that_computes_it_natively() -> None:
    assert choose_precision("auto", CUDA, native=True).mixed_precision == "bf16"


def test_auto_is_never_fp16_where_bf16_is_only_emulated() -> None:
    choice = choose_precision("auto", CUDA, native=False)
    assert choice.mixed_precision == "no"
    assert choice.note is not None
    assert "bf16" in choice.note


def test_a_cuda_device_is_asked_without_emulation(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def supported(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch.cuda, "device", lambda device: torch.no_grad())
    assert choose_precision("auto", CUDA).precision is Precision.FP32
    assert asked == [False]


def test_explicit_bf16_is_obeyed_on_a_cpu_with_a_warning_where_it_is_emulated() -> None:
    emulated, native = (choose_precision("bf16", CPU, native=native) for native in (False, True))
    assert emulated.precision is native.precision is Precision.BF16
    assert emulated.warning is not None
    assert "slower" in emulated.warning
    assert native.warning is None


def test_fp16_on_a_cpu_is_one_clear_error_that_names_the_key() -> None:
    with pytest.raises(SpecError, match=r"train\.precision: fp16 needs an accelerator") as caught:
        choose_precision("fp16", CPU)
    assert caught.value.exit_code == 2


def test_one_process_may_train_in_one_format_after_another() -> None:
    for precision, expected in (("bf16", "bf16"), ("fp32", "no"), ("bf16", "bf16"), ("auto", "no")):
        accelerator, _ = make_accelerator(precision)
        if accelerator.device.type == "cpu":
            assert accelerator.mixed_precision == expected
