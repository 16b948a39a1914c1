"""Where torch computes: a device by name, tried before anything is asked of it."""

from __future__ import annotations

from ..errors import UsageError


def usable_device(name: str) -> str:
    """The name of a torch device that computes; "auto" is a GPU where there is one, else the CPU.

    Raises UsageError for a name that is none, and for a device that is not there or holds no numbers.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if torch.device(name).type == "meta":
            raise UsageError("the device 'meta' holds no numbers, so it cannot compute", hint="cpu, cuda, ...")
        torch.ones(1, device=name).add(1).item()
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"the device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    return name
