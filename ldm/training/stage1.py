"""Stage one: train an autoencoder and its patch discriminator."""

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from ldm.checkpoint.start import StartingWeights
from ldm.data.batch import Batch
from ldm.errors import UserError
from ldm.first_stage.base import FirstStage, Reconstruction
from ldm.first_stage.health import HealthMeter, balance_warnings
from ldm.first_stage.loss import AutoencoderLoss
from ldm.first_stage.vq import use_of_codes
from ldm.nn.weights import mismatch
from ldm.rng import StepRNG
from ldm.training.ema import EMA
from ldm.training.module import TrainingModule, sample_means
from ldm.training.optim.factories import Named, OptimizerFactory, SchedulerFactory


class AutoencoderTraining(TrainingModule):
    """Sec. 3.1 and App. G.

    Both are trained on the same reconstruction: the autoencoder first, then the discriminator on its detached output. (The original
    ran the autoencoder a second time for the discriminator.)

    Args:
        autoencoder: the first stage to train.
        loss: its loss, including the discriminator if there is one.
        optimizer: factory over named parameters, called once for the autoencoder and once for the discriminator.
        scheduler: factory over an optimizer; steps once per training step.
        ema_decay: decay of the EMA of the trained weights; None disables EMA, as in the paper.
        train_only: "decoder" freezes everything else, so that latents stay the same, and with them models of stage two; None trains all.
        start: initial weights for fine-tuning (`ldm.checkpoint.load.starting_weights`); random if None.

    Raises:
        ValueError: a first stage without parameters, or without a decoder to be trained alone.
        UserError: the starting weights are of another architecture.
    """

    def __init__(
        self,
        autoencoder: FirstStage,
        loss: AutoencoderLoss,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory | None = None,
        ema_decay: float | None = None,
        train_only: Literal["decoder"] | None = None,
        start: StartingWeights | None = None,
    ) -> None:
        super().__init__(optimizer, scheduler)
        if autoencoder.last_layer() is None:
            raise ValueError(f"{type(autoencoder).__name__} has nothing to train; name it as first_stage of stage two")
        self.autoencoder, self.loss = autoencoder, loss
        if start is not None:
            if wrong := mismatch(start.tensors, autoencoder.state_dict()):
                raise UserError(f"start: {start.path}: the weights are of another first stage: {wrong}")
            autoencoder.load_state_dict(start.tensors)
        self.train_only = train_only
        for name, parameter in autoencoder.named_parameters():
            if train_only is not None and not name.startswith(autoencoder.decoder_parts):
                parameter.requires_grad_(False)
        if not self.averaged():
            raise ValueError(f"{type(autoencoder).__name__} has no parameters to train (train_only: {train_only})")
        self.ema = None if ema_decay is None else EMA(self.averaged(), ema_decay)

    def averaged(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.autoencoder.named_parameters() if p.requires_grad}

    def weights(self) -> dict[str, Tensor]:
        return self.autoencoder.state_dict()

    def training_state(self) -> dict[str, Tensor]:
        state = {f"autoencoder.{name}": value for name, value in self.weights().items()}
        if self.loss.discriminator is not None:
            state |= {f"discriminator.{name}": value for name, value in self.loss.discriminator.state_dict().items()}
        return state

    def stage(self) -> FirstStage:
        return self.autoencoder

    def parts(self) -> dict[str, nn.Module]:
        discriminator = self.loss.discriminator
        return {"autoencoder": self.autoencoder} | ({} if discriminator is None else {"discriminator": discriminator})

    def groups(self) -> list[Named]:
        return [[(name, p) for name, p in part.named_parameters() if p.requires_grad] for part in self.parts().values()]

    def train(self, mode: bool = True) -> "AutoencoderTraining":
        """With `train_only`, the rest stays in eval mode."""
        super().train(mode)
        if self.train_only is not None:
            self.autoencoder.eval()
            for name, module in self.autoencoder.named_modules():
                if f"{name}.".startswith(self.autoencoder.decoder_parts):
                    module.train(mode)
        return self

    def _reconstruct(self, x: Tensor, random: StepRNG) -> Reconstruction:
        return self.autoencoder.reconstruct(x, self.autoencoder.posterior_noise(x, random))

    def update(self, batch: Batch, random: StepRNG) -> dict[str, Tensor]:
        x = batch["image"]
        y = self._reconstruct(x, random)
        loss, logs = self.loss.generator(x, y, self.step, self.autoencoder.last_layer(), scale=self.loss_scale())
        self.backward_through(loss)
        if self.loss.adversary_on(self.step):
            loss, more = self.loss.adversary(x, y.image)
            self.backward_through(loss)
            logs |= more
        return logs | latent_statistics(y, self.autoencoder)

    def evaluate(self, batch: Batch, meter: HealthMeter | None = None) -> dict[str, Tensor]:
        """As in the base class; also updates `meter`."""
        x = batch["image"]
        y = self._reconstruct(x, StepRNG(0, 0, batch["id"]))
        if meter is not None:
            meter.add(x, y)
        squared = ((y.image.float().clamp(-1, 1) - x) / 2).square().flatten(1).mean(dim=1)
        return {"psnr": (-10 * squared.clamp(min=1e-10).log10()).mean(), "l1": (y.image.float() - x).abs().mean()}

    def validate(self, batches: Iterable[Batch], latest: Mapping[str, float]) -> tuple[dict[str, float], dict[str, str]]:
        meter = HealthMeter(self.autoencoder.codebook_size)
        values = sample_means(batches, lambda batch: self.evaluate(batch, meter))
        health = meter.health()
        warnings = health.warnings() | balance_warnings(latest)
        if values["psnr"] < 10.0:
            warnings["psnr"] = f"reconstructions are poor (PSNR {values['psnr']:.1f} dB)"
        return values | health.scalars(), warnings

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        return {"inputs": batch["image"], "reconstructions": self._reconstruct(batch["image"], StepRNG(0, 0, batch["id"])).image}


@torch.no_grad()
def latent_statistics(y: Reconstruction, first_stage: FirstStage) -> dict[str, Tensor]:
    """Mean and standard deviation of the latent; usage and perplexity of the codebook if there is one."""
    z = y.latent.float()
    logs = {"latent_mean": z.mean(), "latent_std": z.std()}
    if y.codes is not None and first_stage.codebook_size is not None:
        counts = torch.bincount(y.codes.flatten(), minlength=first_stage.codebook_size)
        logs["codebook_usage"], logs["codebook_perplexity"] = use_of_codes(counts)
    return logs
