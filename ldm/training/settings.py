"""What the `trainer:` node of a config says."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch


@dataclass(frozen=True)
class TrainerSettings:
    """How long, on what, and how often to look.

    Attributes:
        steps: training batches of the global size, that is, updates of the generator.
        devices: how many, or "auto" for all, or a list of numbers.
        accelerator: "auto", "cpu", "cuda", "mps".
        precision: of the forward and backward pass; "auto" is bf16 wherever the device computes it natively.
        strategy: Lightning's; "auto" is DDP as soon as there are several devices.
        num_nodes: machines.
        gradient_clip: largest norm of the gradients of a step; none is no limit.
        channels_last: memory format of the networks; "auto" is on with CUDA, where it pays, and off elsewhere.
        log_every: steps between rows of metrics.
        images_every: steps between grids of pictures; 0 is never.
        validate_every: steps between passes over (a part of) the validation data; 0 is never.
        validation_batches: at most so many.
        checkpoint_every: steps between checkpoints; there is always one at the end.
        keep: full checkpoints to keep.
        max_skipped: stop when more than this share of the samples had to be skipped.
        lightning: further arguments of Lightning's Trainer.
    """

    steps: int
    devices: int | str | list[int] = "auto"
    accelerator: str = "auto"
    precision: str = "auto"
    strategy: str = "auto"
    num_nodes: int = 1
    gradient_clip: float | None = None
    channels_last: bool | Literal["auto"] = "auto"
    log_every: int = 50
    images_every: int = 1000
    validate_every: int = 1000
    validation_batches: int = 8
    checkpoint_every: int = 1000
    keep: int = 2
    max_skipped: float = 0.1
    lightning: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "checkpoint_every", "keep", "num_nodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.accelerator not in ("auto", "cpu", "cuda", "gpu", "mps"):
            raise ValueError(f"accelerator {self.accelerator!r} is unknown; there are auto, cpu, cuda, mps")

    def device_type(self) -> str:
        """Where training will run: "cuda", "mps" or "cpu"."""
        if self.accelerator != "auto":
            return "cuda" if self.accelerator == "gpu" else self.accelerator
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"

    def device_count(self) -> int:
        """Devices per machine."""
        if isinstance(self.devices, list):
            return len(self.devices)
        if isinstance(self.devices, str) and self.devices != "auto":
            return len([part for part in self.devices.split(",") if part])
        if self.devices in ("auto", -1):
            return torch.cuda.device_count() if self.device_type() == "cuda" else 1
        return int(self.devices)

    def world_size(self) -> int:
        """Processes in all."""
        return self.device_count() * self.num_nodes

    def resolved_precision(self) -> str:
        """`precision` with "auto" decided for this machine."""
        if self.precision != "auto":
            return self.precision
        kind = self.device_type()
        if kind == "cuda":
            return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
        return "bf16-mixed" if kind == "cpu" and native_cpu_bf16() else "32-true"


def native_cpu_bf16() -> bool:
    """Whether this CPU multiplies bf16 numbers in hardware; without, bf16 only costs."""
    return "avx512_bf16" in _cpu_flags() or "amx_bf16" in _cpu_flags()


def _cpu_flags() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line for line in file if line.startswith("flags")), "")
    except OSError:  # not Linux
        return ""
