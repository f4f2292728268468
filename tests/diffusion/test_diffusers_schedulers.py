"""Rectified flow and EDM beside diffusers' schedulers: the same network, the same start, the same latents at the end."""

import numpy as np
import pytest
import torch

from ldm.diffusion import EDM, Process, RectifiedFlow
from ldm.diffusion.sampling import euler
from ldm.first_stage import IdentityFirstStage
from ldm.model import LatentDiffusion
from ldm.networks import UNet

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install -e .[dev]")
STEPS = 12


def made(process: Process, parameterization: str) -> LatentDiffusion:
    torch.manual_seed(0)
    net = UNet(2, 2, 32, [1, 2], 1, heads=1)
    for p in net.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.1)
    return LatentDiffusion(IdentityFirstStage(2), net, process, parameterization=parameterization).eval()


@torch.no_grad()
def ours(model: LatentDiffusion, noise: torch.Tensor, times: list[float] | None = None) -> torch.Tensor:
    process = model.process
    times = times or process.spacings()["uniform"](STEPS)
    return euler(model.denoiser({}), process.begin(noise), process, times, noise=torch.zeros_like)


@torch.no_grad()
def theirs(model: LatentDiffusion, scheduler, start: torch.Tensor) -> torch.Tensor:
    z = start
    for t in scheduler.timesteps:
        taken = scheduler.scale_model_input(z, t) if hasattr(scheduler, "scale_model_input") else z
        z = scheduler.step(model.network(taken, t.expand(len(z))), t, z).prev_sample
    return z


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_matching(shift: float) -> None:
    model, noise = made(RectifiedFlow(shift=shift), "velocity"), torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1.0 / STEPS, STEPS))  # as the pipelines of flow models do
    torch.testing.assert_close(ours(model, noise), theirs(model, scheduler, noise), atol=1e-5, rtol=1e-5)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(STEPS)  # its own spacing, which stops before 0 once more
    times = [float(sigma) for sigma in scheduler.sigmas]
    torch.testing.assert_close(ours(model, noise, times), theirs(model, scheduler, noise), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
def test_edm(sigma_data: float) -> None:
    model, noise = made(EDM(sigma_data=sigma_data), "edm"), torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    scheduler = diffusers.EDMEulerScheduler(sigma_data=sigma_data)
    scheduler.set_timesteps(STEPS)
    torch.testing.assert_close(ours(model, noise), theirs(model, scheduler, 80.0 * noise), atol=1e-5, rtol=1e-5)
