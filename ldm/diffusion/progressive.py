"""Progressive coding with a diffusion model (Ho et al., 2020, Sec. 4.3): rate and distortion of sending a latent.

Sender and receiver share the model. First z_T is sent, then z_s given z_t for decreasing timesteps. Each step costs the KL divergence
of q(z_s | z_t, z_0) from the model's p(z_s | z_t), which has the same variance and the predicted clean latent in its mean.
The receiver may stop at any timestep: it knows z_t and predicts the clean latent from it. This rate is reached, in the limit, by a
code with randomness shared by both sides; no file is written.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ldm.diffusion.guidance import Denoise
from ldm.diffusion.process import DiscreteProcess


@dataclass(frozen=True)
class Received:
    """State of the receiver at one timestep.

    Attributes:
        t: 0 to T-1.
        nats: information sent so far, `(B,)` float64.
        z_0: the predicted clean latent, `(B, c, h, w)`.
    """

    t: int
    nats: Tensor
    z_0: Tensor


def code_times(T: int, steps: int) -> list[int]:
    """`steps` evenly spaced timesteps from T-1 down to 0; T of them are the whole chain, as in Ho et al.

    Raises:
        ValueError: fewer than 2 or more than T.
    """
    if not 2 <= steps <= T:
        raise ValueError(f"a code over {T} timesteps has 2 to {T} steps, got {steps}")
    return [round((T - 1) * (1 - i / (steps - 1))) for i in range(steps)]


@torch.no_grad()
def progressive(
    denoise: Denoise, z_0: Tensor, process: DiscreteProcess, times: list[int], generator: torch.Generator | None = None
) -> Iterator[Received]:
    """Send latents, and yield what the receiver knows at every timestep.

    The divergences are estimated: at each timestep z_t is drawn from q(z_t | z_0), one draw per latent. A step from t to s < t costs
    (SNR_s - SNR_t) / 2 times the squared error of the prediction: two normals of equal variance whose means differ by that error (Kingma et
    al., 2021, Eq. 13-15; for s = t - 1, L_(t-1) of Ho et al.). Fewer steps than T give a code too, at a slightly higher rate.

    Args:
        denoise: the model with its conditioning; both sides know the condition, which is not counted.
        z_0: `(B, c, h, w)` float32.
        process: the process that the model was trained with.
        times: decreasing timesteps, T-1 first.
        generator: for the noise, on the CPU.

    Yields:
        One for each timestep. Sending the remainder of z_0 after the last costs infinitely much if z_0 is continuous and is not counted.
    """
    squared = torch.cumprod(1.0 - process.betas, dim=0)  # float64
    snr = squared / (1.0 - squared)
    nats = process.prior_bits(z_0).double().cpu() * math.log(2.0) * z_0[0].numel()
    for t, s in zip(times, [*times[1:], None], strict=True):
        eps = torch.randn(z_0.shape, generator=generator).to(z_0)
        guess = denoise(process.add_noise(z_0, t, eps), t).z_0
        yield Received(t, nats.clone(), guess)
        if s is not None:
            error = (guess.double() - z_0.double()).square().flatten(1).sum(dim=1).cpu()
            nats = nats + 0.5 * (snr[s] - snr[t]) * error
