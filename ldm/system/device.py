"""The devices to train, sample and measure on."""

import platform
from pathlib import Path

import torch

from ldm.errors import UserError


def pick_device(name: str = "auto") -> torch.device:
    """The device to sample on.

    Raises:
        UserError: it is not available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps", "xpu"):
            raise RuntimeError("available are cpu, cuda and mps")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device


def pick_devices(names: str = "auto") -> list[torch.device]:
    """Devices to sample on: a comma-separated list; "cuda", and "auto" if there are GPUs, means all of them.

    Raises:
        UserError: it is not available.
    """
    devices = [pick_device(name.strip()) for name in names.split(",")]
    if names in ("auto", "cuda") and devices[0].type == "cuda":
        return [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
    return devices


def device_name(device: torch.device) -> str:
    """Its model; of a CPU also the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type.upper()
    return f"{processor_name()}, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"


def processor_name() -> str:
    """The model of this CPU, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine() or "CPU")
