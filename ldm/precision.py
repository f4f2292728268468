"""Precision of computation: the only place where anything narrower than float32 is chosen.

Lower precision is faster only if the device multiplies it in hardware. A processor without such instructions emulates it by
conversion, many times slower than float32.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path

import torch

from ldm.errors import UserError

TRAINING = ("auto", "32-true", "bf16-mixed", "16-mixed")  # as Lightning names them
REFUSED = {  # other names of Lightning
    "bf16-true": "weights, averages and the noise schedule would be rounded to 8 bits; use bf16-mixed, which keeps them",
    "16-true": "weights, averages and the noise schedule would be rounded to 11 bits; use 16-mixed, which keeps them",
    "64-true": "noise schedule, losses and averages are float32; use 32-true",
}
SAMPLING = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
# Values of the environment variables of oneDNN and ATen with which bf16 is multiplied as float32; other values do not matter.
NARROW_ISAS = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")
NARROW_CAPABILITIES = ("default", "avx2")


def multiplies_bf16(device: torch.device) -> bool:
    """Whether a device multiplies bf16 in hardware, within the limits set by environment variables."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.backends.mkldnn.is_available() and cpu_multiplies_bf16(cpu_flags(), os.environ)


def cpu_multiplies_bf16(flags: Collection[str], environment: Mapping[str, str]) -> bool:
    """The same for a CPU with these flags of Linux and these environment variables."""
    isa = (environment.get("ONEDNN_MAX_CPU_ISA") or environment.get("DNNL_MAX_CPU_ISA", "")).upper()
    limited = isa in NARROW_ISAS or environment.get("ATEN_CPU_CAPABILITY", "").lower() in NARROW_CAPABILITIES
    return not limited and not BF16_FLAGS.isdisjoint(flags)


@cache
def cpu_flags() -> frozenset[str]:
    """Flags of this CPU; empty if unknown."""
    if hasattr(torch.cpu, "get_capabilities"):
        return frozenset(name for name, value in torch.cpu.get_capabilities().items() if value is True)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())


def narrowest(device: torch.device) -> torch.dtype:
    """The narrowest type that is suitable for training and that the device multiplies in hardware: bf16 or float32."""
    return torch.bfloat16 if multiplies_bf16(device) else torch.float32


def for_training(name: str, device: torch.device) -> str:
    """A name of `TRAINING`, with "auto" replaced for the device."""
    return name if name != "auto" else "bf16-mixed" if multiplies_bf16(device) else "32-true"


def for_sampling(name: str, device: torch.device) -> str:
    """A name of `SAMPLING`, with "auto" replaced for the device.

    Raises:
        UserError: an unknown name.
    """
    if name == "auto":
        return "bf16" if multiplies_bf16(device) else "fp32"
    if name not in SAMPLING:
        raise UserError(f"precision {name!r} is unknown; there are auto, {', '.join(SAMPLING)}")
    return name


def require_training(name: str, device: str) -> None:
    """Check that training in a precision is possible.

    Args:
        name: name of the precision.
        device: "cuda", "cpu", "mps", or "auto" if it is not known yet.

    Raises:
        ValueError: it is not; the message says what to use instead.
    """
    if name in REFUSED:
        raise ValueError(f"precision {name!r} is not supported: {REFUSED[name]}")
    if name not in TRAINING:
        raise ValueError(f"precision {name!r} is unknown; there are {', '.join(TRAINING)}")
    if name == "16-mixed" and device in ("cpu", "mps"):
        raise ValueError(f"precision '16-mixed' needs CUDA, this run is on {device}; use auto, bf16-mixed or 32-true")


def gradient_scaler(name: str, device: torch.device) -> torch.amp.GradScaler | None:
    """Loss scaler against underflow of gradients for a precision of `TRAINING`; None if it is not needed."""
    return torch.amp.GradScaler(device.type) if name == "16-mixed" else None


def sampling_context(name: str, device: torch.device) -> AbstractContextManager[object]:
    """Autocast for a name of `SAMPLING`, or "auto", on the device.

    Raises:
        UserError: an unknown name.
    """
    dtype = SAMPLING[for_sampling(name, device)]
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def no_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Context without autocast; the meta device has none."""
    return torch.autocast(device.type, enabled=False) if torch.amp.is_autocast_available(device.type) else nullcontext()


def faster_float32(device: torch.device) -> None:
    """Multiply float32 in TF32 from here on if the device supports it, except within `exact`."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Context of full float32 precision: no autocast, and no TF32, which rounds factors to 10 bits.

    For decisions (the nearest code or neighbour) and measures, which must be the same on GPU and CPU.
    """
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    try:
        with no_autocast(device):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])
