"""Stage two: train the denoiser (and the conditioner) in the latent space of a frozen first stage (Eq. 2 and 3)."""

import logging
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ldm.checkpoint.start import StartingWeights, begin_with, own_weights
from ldm.data.batch import Batch, Key
from ldm.diffusion.objective import DiffusionObjective
from ldm.first_stage.base import FirstStage
from ldm.model import LatentDiffusion
from ldm.rng import StepRNG
from ldm.sampling.generate import SamplerSettings, generate, to_device
from ldm.training.ema import EMA
from ldm.training.module import TrainingModule, draws
from ldm.training.optim.factories import Named, OptimizerFactory, SchedulerFactory
from ldm.training.posthoc import PowerEMA

log = logging.getLogger(__name__)
SCALE = "model.params.model.params.scale"
FAR = 2.0  # factor between the measured and the expected deviation of latents, from which it is told


class DiffusionTraining(TrainingModule):
    """Sec. 3.2 and 3.3.

    Args:
        model: first stage, network, process and conditioner.
        optimizer: factory over named parameters of the network and the conditioner.
        objective: the regression loss; L2 if None.
        scheduler: factory over an optimizer; steps once per training step.
        ema_decay: decay of the EMA of the trained parameters; None disables EMA.
        ema_of: "all" trained parameters, or "network" without the conditioner, as in the original.
        posthoc_sigma_rels: relative lengths of power-function EMAs that are saved with every checkpoint, such as [0.05, 0.1], from
            which `scripts/posthoc_ema.py` computes an average of any length after the run.
        train_conditioner: false freezes the conditioner.
        start: initial weights for fine-tuning (`ldm.checkpoint.load.starting_weights`); random if None.
        preview: sampler settings of the images during training.
    """

    def __init__(
        self,
        model: LatentDiffusion,
        optimizer: OptimizerFactory,
        objective: DiffusionObjective | None = None,
        scheduler: SchedulerFactory | None = None,
        ema_decay: float | None = 0.9999,
        preview: SamplerSettings | None = None,
        ema_of: Literal["all", "network"] = "all",
        posthoc_sigma_rels: Sequence[float] | None = None,
        train_conditioner: bool = True,
        start: StartingWeights | Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__(optimizer, scheduler)
        self.model, self.objective = model, objective or DiffusionObjective()
        self.objective.require(model.process, model.parameterization)
        if start is not None:
            for line in begin_with(model, start if isinstance(start, StartingWeights) else StartingWeights(start)):
                log.info("start: %s", line)
        if not train_conditioner:
            model.conditioner.requires_grad_(False)
        self.ema_of = ema_of
        self.preview = preview or SamplerSettings(steps=50)
        self.ema = None if ema_decay is None else EMA(self.averaged(), ema_decay)
        self.posthoc = None if posthoc_sigma_rels is None else PowerEMA(self.averaged(), posthoc_sigma_rels)

    def trained(self) -> dict[str, nn.Parameter]:
        """Parameters of network and conditioner that require gradients."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad and not name.startswith("first_stage.")}

    def averaged(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.trained().items() if self.ema_of == "all" or name.startswith("network.")}

    def weights(self) -> dict[str, Tensor]:
        stage = self.model.first_stage
        inline = {} if stage.sha256 else {f"first_stage.{name}": value for name, value in stage.state_dict().items()}
        return own_weights(self.model) | inline  # a first stage that came from no file is in no other file

    def training_state(self) -> dict[str, Tensor]:
        return own_weights(self.model) | {f"objective.{name}": value for name, value in self.objective.state_dict().items()}

    def keys(self) -> dict[str, Key]:
        return {**super().keys(), **self.model.conditioner.keys}

    def stage(self) -> FirstStage:
        return self.model.first_stage

    def check_size(self, height: int, width: int) -> None:
        self.model.latent_shape(height, width)

    def parts(self) -> dict[str, nn.Module]:
        return {"first_stage": self.model.first_stage, "network": self.model.network, "conditioner": self.model.conditioner}

    def groups(self) -> list[Named]:
        learned = [(f"objective.{name}", p) for name, p in self.objective.named_parameters()]
        return [[*self.trained().items(), *learned]]

    def update(self, batch: Batch, random: StepRNG) -> dict[str, Tensor]:
        errors = self.model.errors(self.model.dropped(batch, random), self.objective, random)
        loss, logs = self.objective(*errors, self.model.process, self.model.parameterization)
        self.backward_through(loss)
        return logs  # type: ignore[no-any-return]

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.model.scale_by_std and self.step == 0:
            self._measure_scale()
        elif self.step == 0 and next(self.model.first_stage.parameters(), None) is not None:
            self._check_scale()

    @torch.no_grad()
    def _check_scale(self) -> None:
        """Warn of latents that are not normalized, by the first micro-batch of this process."""
        batch = next(iter(self.trainer.datamodule.first_step()))  # type: ignore[attr-defined]
        z = self.model.encode(to_device(batch, self.device)["image"])
        for warning in not_normalized(z, self.model.process.sigma_data):
            log.warning("warning: %s", warning)

    @torch.no_grad()
    def _measure_scale(self) -> None:
        """Measure the scale of latents on the first global batch (App. G), the same on all devices."""
        sums = torch.zeros(3, self.model.first_stage.channels, dtype=torch.float64)
        for batch in self.trainer.datamodule.first_step():  # type: ignore[attr-defined]
            x = to_device(batch, self.device)["image"]
            noise = self.model.first_stage.posterior_noise(x, StepRNG(self.run_seed, 0, draws(batch)))
            sums += self.model.moments(self.model.first_stage.encode(x, noise))
        self.model.set_scale(self.trainer.strategy.reduce(sums.to(self.device), reduce_op="sum"))  # type: ignore[union-attr,arg-type]

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": self.model.errors(batch, self.objective, StepRNG(0, 0, batch["id"]))[0].mean()}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        x = batch["image"]
        condition = {key: batch[key] for key in self.model.conditioner.reads}
        return {"samples": generate(self.model, condition, range(len(x)), (x.shape[2], x.shape[3]), self.preview)}


def not_normalized(z: Tensor, expected: float | None) -> list[str]:
    """A warning if the standard deviation of scaled latents `(B, c, h, w)` is not about what the process expects; 1 if None."""
    std, mean = float(z.float().std()), z.float().mean(dim=(0, 2, 3))
    wanted = expected or 1.0
    if wanted / FAR <= std <= wanted * FAR:
        return []
    apart = float(mean.std(correction=0)) > 0.5 * std  # what separates the channels is their means
    advice = f"set {SCALE}: {'channels' if apart else 'std'}"
    if wanted != 1.0:
        advice = f"the process expects {wanted:g} (sigma_data): {advice}, and sigma_data: 1.0"
        return [f"latents have std {std:.2g}, {advice}"]
    return [f"latents have std {std:.2g}: {advice}"]
