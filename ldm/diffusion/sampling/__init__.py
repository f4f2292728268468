"""Samplers: plain functions over one `denoise(z_t, t)`. To add one, write the function and name it here."""

from collections.abc import Callable

from torch import Tensor

from ldm.diffusion.sampling.ddim import ddim
from ldm.diffusion.sampling.ddpm import ddpm
from ldm.diffusion.sampling.dpm_solver import dpm_solver, dpm_solver_sde
from ldm.diffusion.sampling.heun import heun
from ldm.diffusion.sampling.known import known_region
from ldm.diffusion.sampling.plms import plms
from ldm.diffusion.sampling.timesteps import Hooks, last_part, original_quadratic, original_uniform, uniform
from ldm.diffusion.sampling.unipc import unipc

SAMPLERS: dict[str, Callable[..., Tensor]] = {
    "ddpm": ddpm,
    "ddim": ddim,
    "plms": plms,
    "heun": heun,
    "dpm_solver": dpm_solver,
    "dpm_solver_sde": dpm_solver_sde,
    "unipc": unipc,
}

SPACINGS: dict[str, Callable[[int, int], list[int]]] = {
    "uniform": uniform,
    "original_uniform": original_uniform,
    "original_quadratic": original_quadratic,
}

__all__ = [
    "SPACINGS",
    "Hooks",
    "SAMPLERS",
    "ddim",
    "ddpm",
    "dpm_solver",
    "dpm_solver_sde",
    "heun",
    "known_region",
    "last_part",
    "original_quadratic",
    "original_uniform",
    "plms",
    "uniform",
    "unipc",
]
