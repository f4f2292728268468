"""Samplers: plain functions of `denoise(z_t, t)` that work with every process. To add one, write the function and name it here or in
a config."""

from ldm.diffusion.sampling.ddim import ddim
from ldm.diffusion.sampling.ddpm import ddpm
from ldm.diffusion.sampling.dpm_solver import dpm_solver, dpm_solver_sde
from ldm.diffusion.sampling.heun import euler, heun
from ldm.diffusion.sampling.known import known_region
from ldm.diffusion.sampling.plms import plms
from ldm.diffusion.sampling.steps import NO_HOOKS, Hooks, Noise, Sampler, last_part, step_pairs
from ldm.diffusion.sampling.unipc import unipc

SAMPLERS: dict[str, Sampler] = {
    "ddpm": ddpm,
    "ddim": ddim,
    "plms": plms,
    "euler": euler,
    "heun": heun,
    "dpm_solver": dpm_solver,
    "dpm_solver_sde": dpm_solver_sde,
    "unipc": unipc,
}

__all__ = [
    "NO_HOOKS",
    "SAMPLERS",
    "Hooks",
    "Noise",
    "Sampler",
    "ddim",
    "ddpm",
    "dpm_solver",
    "dpm_solver_sde",
    "euler",
    "heun",
    "known_region",
    "last_part",
    "plms",
    "step_pairs",
    "unipc",
]
