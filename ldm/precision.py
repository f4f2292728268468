"""In which precision a device computes: the one place where anything narrower than float32 is chosen.

Narrower numbers pay only where the device multiplies them in hardware. A processor without such instructions computes the same by
converting back and forth, many times slower than in float32.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path

import torch

from ldm.errors import UserError

TRAINING = ("auto", "32-true", "bf16-mixed", "16-mixed")  # as Lightning names them
REFUSED = {  # what else Lightning knows
    "bf16-true": "weights, averages and the noise schedule would be rounded to 8 bits; use bf16-mixed, which keeps them",
    "16-true": "weights, averages and the noise schedule would be rounded to 11 bits; use 16-mixed, which keeps them",
    "64-true": "noise schedule, losses and averages are float32; use 32-true",
}
SAMPLING = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
# Limits under which bf16 is multiplied as float32, as oneDNN and ATen name them; what is not listed here limits nothing that matters.
NARROW_ISAS = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")
NARROW_CAPABILITIES = ("default", "avx2")


def multiplies_bf16(device: torch.device) -> bool:
    """Whether a device multiplies bf16 numbers in hardware, under the limits that the environment sets."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.backends.mkldnn.is_available() and cpu_multiplies_bf16(cpu_flags(), os.environ)


def cpu_multiplies_bf16(flags: Collection[str], environment: Mapping[str, str]) -> bool:
    """The same of a CPU with these flags, as Linux names them, in this environment."""
    isa = (environment.get("ONEDNN_MAX_CPU_ISA") or environment.get("DNNL_MAX_CPU_ISA", "")).upper()
    limited = isa in NARROW_ISAS or environment.get("ATEN_CPU_CAPABILITY", "").lower() in NARROW_CAPABILITIES
    return not limited and not BF16_FLAGS.isdisjoint(flags)


@cache
def cpu_flags() -> frozenset[str]:
    """What this CPU can do; empty where it cannot be told."""
    if hasattr(torch.cpu, "get_capabilities"):
        return frozenset(name for name, value in torch.cpu.get_capabilities().items() if value is True)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())


def narrowest(device: torch.device) -> torch.dtype:
    """The narrowest type that training bears and the device multiplies in hardware: bf16 or float32."""
    return torch.bfloat16 if multiplies_bf16(device) else torch.float32


def for_training(name: str, device: torch.device) -> str:
    """A name of `TRAINING` with "auto" decided for the device."""
    return name if name != "auto" else "bf16-mixed" if multiplies_bf16(device) else "32-true"


def for_sampling(name: str, device: torch.device) -> str:
    """A name of `SAMPLING` with "auto" decided for the device.

    Raises:
        UserError: an unknown name.
    """
    if name == "auto":
        return "bf16" if multiplies_bf16(device) else "fp32"
    if name not in SAMPLING:
        raise UserError(f"precision {name!r} is unknown; there are auto, {', '.join(SAMPLING)}")
    return name


def require_training(name: str, device: str) -> None:
    """See that training in a precision is possible.

    Args:
        name: of the precision.
        device: "cuda", "cpu", "mps", or "auto" where it is not known yet.

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
    """What keeps small gradients from vanishing in a precision of `TRAINING`; none where they do not."""
    return torch.amp.GradScaler(device.type) if name == "16-mixed" else None


def sampling_context(name: str, device: torch.device) -> AbstractContextManager[object]:
    """Autocast to what a name of `SAMPLING`, or "auto", means on the device.

    Raises:
        UserError: an unknown name.
    """
    dtype = SAMPLING[for_sampling(name, device)]
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def no_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Within, operations keep the types of their tensors."""
    return torch.autocast(device.type, enabled=False)


def faster_float32(device: torch.device) -> None:
    """Multiply float32 numbers in TF32 from here on, where the device has it and nothing asks for `exact`."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Within, float32 is float32: no autocast, and no TF32, which rounds to 10 bits whatever is multiplied or convolved.

    For what decides (the nearest code or neighbour) or measures, where a GPU's answer has to be a CPU's.
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
