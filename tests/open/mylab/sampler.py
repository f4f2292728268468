"""A sampler: the midpoint rule on the probability-flow ODE."""

from torch import Tensor

from ldm.diffusion import Process
from ldm.diffusion.guidance import Denoise
from ldm.diffusion.sampling import NO_HOOKS, Hooks, Noise, step_pairs


def midpoint(denoise: Denoise, z_T: Tensor, process: Process, times: list[float], *, noise: Noise, hooks: Hooks = NO_HOOKS) -> Tensor:
    if process.ode_divides_by_alpha:
        raise ValueError("sampler midpoint steps in time, which this process counts in whole numbers")
    z = z_T
    for t, s in step_pairs(times):
        z = hooks.before(z, t)
        eps, z_0 = denoise(z, t)
        half = (t + s) / 2
        middle = denoise(z + (half - t) * process.drift(z_0, eps, t), half)
        z = hooks.after(z + (s - t) * process.drift(middle.z_0, middle.eps, half), z_0, t)
    return z
