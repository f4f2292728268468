"""The loss of stage one (App. G): reconstruction, perceptual distance, regulariser, patch adversary."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm.first_stage.base import Reconstruction
from ldm.first_stage.perceptual import LPIPS
from ldm.networks.discriminator import PatchDiscriminator
from ldm.precision import no_autocast
from ldm.ranges import integer, number


class PixelLoss(nn.Module):
    """Weighted sum of errors per pixel, two `(B, C, H, W)` -> `(B, C, H, W)`.

    Args:
        l1: weight of the absolute error (the paper's).
        l2: weight of the squared error.
        gradient: weight of the absolute error of horizontal and vertical differences; sharpens edges without a
            perceptual loss.
    """

    def __init__(self, l1: float = 1.0, l2: float = 0.0, gradient: float = 0.0) -> None:
        super().__init__()
        number(0, l1=l1, l2=l2, gradient=gradient)
        self.l1, self.l2, self.gradient = l1, l2, gradient

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        error = x - y
        loss = self.l1 * error.abs()
        if self.l2:
            loss = loss + self.l2 * error.square()
        if self.gradient:
            dx, dy = error.diff(dim=3).abs(), error.diff(dim=2).abs()
            loss = loss + self.gradient * (F.pad(dx, (0, 1)) + F.pad(dy, (0, 0, 0, 1)))
        return loss


class AutoencoderLoss(nn.Module):
    """Generator and discriminator losses of stage one.

    Args:
        pixel: error per pixel.
        perceptual: LPIPS; None disables it.
        perceptual_weight: of LPIPS, added to every pixel's error.
        discriminator: patch discriminator; None disables the adversarial loss.
        adversarial_weight: multiplies the adaptive weight.
        adversarial_start: training step (batches) from which the adversarial loss is used and the discriminator is trained.
        regularizer_weight: of the KL divergence (1e-6 in the paper) or the codebook loss (1).
        reduction: "sum" over an image's pixels, as for the KL models, or "mean", as for the VQ models. The weights of
            the other terms are relative to it.
        adversarial_loss: "hinge" or "vanilla".
        log_variance: log variance s of the reconstruction likelihood: error / exp(s) + s. In the original it is a parameter that no
            optimizer updates; here it is a constant. 0 leaves the error unchanged.
    """

    def __init__(
        self,
        pixel: PixelLoss | None = None,
        perceptual: LPIPS | None = None,
        perceptual_weight: float = 1.0,
        discriminator: PatchDiscriminator | None = None,
        adversarial_weight: float = 0.5,
        adversarial_start: int = 0,
        regularizer_weight: float = 1.0e-6,
        reduction: Literal["sum", "mean"] = "sum",
        adversarial_loss: Literal["hinge", "vanilla"] = "hinge",
        log_variance: float = 0.0,
    ) -> None:
        super().__init__()
        number(0, perceptual_weight=perceptual_weight, adversarial_weight=adversarial_weight, regularizer_weight=regularizer_weight)
        integer(0, adversarial_start=adversarial_start)
        number(-30, 20, log_variance=log_variance)
        self.pixel = pixel or PixelLoss()
        self.perceptual, self.perceptual_weight = perceptual, perceptual_weight
        self.discriminator = discriminator
        self.adversarial_weight, self.adversarial_start = adversarial_weight, adversarial_start
        self.regularizer_weight, self.reduction, self.adversarial_loss = regularizer_weight, reduction, adversarial_loss
        self.register_buffer("log_variance", torch.tensor(float(log_variance)))
        self.log_variance: Tensor

    @staticmethod
    def narrow(params: dict[str, Any]) -> None:
        """See `FirstStage.narrow`: no perceptual loss, and an adversary that is active from the first step."""
        params.update(perceptual=None, adversarial_start=0)

    def adversary_on(self, step: int) -> bool:
        """Whether the adversarial loss is active at this training step."""
        return self.discriminator is not None and step >= self.adversarial_start

    def generator(
        self,
        x: Tensor,
        y: Reconstruction,
        step: int,
        last_layer: Tensor | None,
        weights: Tensor | None = None,
        scale: float = 1.0,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the autoencoder for images x `(B, C, H, W)` in [-1, 1], and scalars to log.

        `weights`, broadcastable to x, are relative weights of the reconstruction errors of samples or regions. `scale` multiplies
        losses before gradients are taken in fp16, where small ones underflow.
        """
        with no_autocast(x.device):
            x, image = x.float(), y.image.float()
            error = self.pixel(x, image)
            logs = {"pixel": error.detach().mean()}
            if self.perceptual is not None:
                distance = self.perceptual(x, image)
                error = error + self.perceptual_weight * distance[:, None, None, None]
                logs["lpips"] = distance.detach().mean()
            logs["error"] = error.detach().mean()
            error = error / self.log_variance.exp() + self.log_variance
            reconstruction = self._reduced(error)
            regularizer = y.regularizer.mean()
            loss = (reconstruction if weights is None else self._reduced(weights * error)) + self.regularizer_weight * regularizer
        logs |= {"reconstruction": reconstruction.detach(), "regularizer": regularizer.detach()}
        if self.adversary_on(step):
            assert self.discriminator is not None
            # The discriminator is frozen here: gradients reach the image, not the discriminator's weights.
            self.discriminator.requires_grad_(False)
            adversarial = -self.discriminator(y.image).float().mean()
            self.discriminator.requires_grad_(True)
            weight = self.adaptive_weight(reconstruction, adversarial, last_layer, scale)
            loss = loss + weight * adversarial
            logs |= {"adversarial": adversarial.detach(), "adversarial_weight": weight}
        return loss, logs | {"loss": loss.detach()}

    def _reduced(self, error: Tensor) -> Tensor:
        return error.sum() / len(error) if self.reduction == "sum" else error.mean()

    def adaptive_weight(self, reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor | None, scale: float = 1.0) -> Tensor:
        """lambda = |grad reconstruction| / (|grad adversarial| + 1e-4) at the last decoder layer (App. G)."""
        if last_layer is None or not last_layer.requires_grad or not torch.is_grad_enabled():
            return adversarial.new_zeros(())
        by_reconstruction = torch.autograd.grad(scale * reconstruction, last_layer, retain_graph=True)[0].norm() / scale
        by_adversary = torch.autograd.grad(scale * adversarial, last_layer, retain_graph=True)[0].norm() / scale
        weight = (by_reconstruction / (by_adversary + 1e-4)).clamp(0.0, 1e4)
        return (weight * self.adversarial_weight).detach()

    def adversary(self, x: Tensor, image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the discriminator for real images x and reconstructions `(B, C, H, W)`, and scalars to log."""
        assert self.discriminator is not None
        real, fake = self.discriminator(x.detach()).float(), self.discriminator(image.detach()).float()
        if self.adversarial_loss == "hinge":
            loss = 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean())
        else:
            loss = 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())
        right = 0.5 * ((real > 0).float().mean() + (fake < 0).float().mean())
        logs = {"discriminator": loss, "discriminator_right": right, "logits_real": real.mean(), "logits_fake": fake.mean()}
        return loss, {name: value.detach() for name, value in logs.items()}
