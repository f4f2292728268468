"""Image guidance (App. C): guide a trained model by a target image that it was never conditioned on."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm.diffusion.guidance import Denoise, shifted
from ldm.diffusion.parameterization import Prediction
from ldm.diffusion.process import Process
from ldm.precision import no_autocast

Transform = Callable[[Tensor], Tensor]  # T: images (B, C, H, W) -> what is compared with the target
LogP = Callable[[Tensor], Tensor]  # images D(z_0) (B, C, H, W) -> log p(y | image) (B,), up to a constant


def gaussian(target: Tensor, transform: Transform) -> LogP:
    """-1/2 ||y - T(x)||^2: a Gaussian guider with unit variance (Eq. 17), the L2 guider.

    Args:
        target: y, `(B, ...)` as T gives it; or `(1, ...)` for all.
        transform: T, any differentiable function.
    """
    return lambda x: -0.5 * (target - transform(x)).float().square().flatten(1).sum(dim=1)


def perceptual(target: Tensor, transform: Transform, distance: Callable[[Tensor, Tensor], Tensor]) -> LogP:
    """-d(T(x), y) with a perceptual distance such as LPIPS in the place of Eq. 17's squares (App. C, Sec. 4.4).

    Args:
        target: y, images `(B, C, h, w)` in [-1, 1]; or `(1, C, h, w)` for all.
        transform: T.
        distance: (images, images) -> `(B,)`, differentiable.
    """

    def log_p(x: Tensor) -> Tensor:
        seen = transform(x)
        return -distance(seen, target.expand_as(seen))

    return log_p


def reduced_to(height: int, width: int) -> Transform:
    """T of Fig. 14 and of super-resolution: antialiased bicubic reduction to a size; images of that size are returned unchanged.

    Computed in float32 outside autocast, as two matrix products: `F.interpolate` does not support bf16 on the CPU, and its
    gradient does not exist on every device.
    """

    def transform(x: Tensor) -> Tensor:
        if x.shape[2:] == (height, width):
            return x
        with no_autocast(x.device):
            rows, columns = (reduction(old, new).to(x.device) for old, new in zip(x.shape[2:], (height, width), strict=True))
            return rows @ x.float() @ columns.T

    return transform


def reduction(old: int, new: int) -> Tensor:
    """Weights `(new, old)` of the antialiased bicubic reduction along one side."""
    return F.interpolate(torch.eye(old)[None, None], size=(new, old), mode="bicubic", antialias=True)[0, 0]


def image_guided(denoise: Denoise, decode: Callable[[Tensor], Tensor], log_p: LogP, scale: float, process: Process) -> Denoise:
    """eps - scale sigma_t grad log p(y | T(D(z_0(z_t)))), with the gradient taken through D and the network (Eq. 16).

    Eq. 16 prints a plus where Algorithm 2 of Dhariwal and Nichol (2021), which it quotes, has a minus: with the plus, samples
    would run away from the target.

    Args:
        denoise: differentiable denoiser; classifier-free guidance may be inside.
        decode: D, differentiable.
        log_p: see `gaussian` and `perceptual`; T is inside.
        scale: 1 is the paper's.
        process: the model's.
    """

    def guided(z_t: Tensor, t: float) -> Prediction:
        with torch.enable_grad():
            z = z_t.detach().requires_grad_()
            prediction = denoise(z, t)
            (score,) = torch.autograd.grad(log_p(decode(prediction.z_0)).sum(), z)
        return shifted(Prediction(*(view.detach() for view in prediction)), scale * score, z_t, t, process)

    return guided
