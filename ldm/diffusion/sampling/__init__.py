"""Samplers: plain functions over one `denoise(z_t, t)`. To add one, write the function and name it here."""

from ldm.diffusion.sampling.ddim import ddim
from ldm.diffusion.sampling.ddpm import ddpm
from ldm.diffusion.sampling.timesteps import uniform

SAMPLERS = {"ddpm": ddpm, "ddim": ddim}

__all__ = ["SAMPLERS", "ddim", "ddpm", "uniform"]
