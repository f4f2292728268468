"""Stage two: train the denoiser (and the conditioner) in the latent space of a frozen first stage (Eq. 2 and 3)."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ldm.data.batch import Batch
from ldm.diffusion.objective import DiffusionObjective
from ldm.generation import SamplerSettings, generate
from ldm.latent_diffusion import LatentDiffusion
from ldm.seeding import StepRandom
from ldm.training.ema import EMA
from ldm.training.module import OptimizerFactory, SchedulerFactory, TrainingModule


class DiffusionTraining(TrainingModule):
    """Sec. 3.2 and 3.3.

    Args:
        model: first stage, network, schedule and conditioner.
        optimizer: factory over named parameters of the network and the conditioner.
        objective: the regression loss; L2 without it.
        scheduler: factory over an optimizer; steps once per training step.
        ema_decay: of network and conditioner; none is no average.
        preview: how the pictures during training are sampled.
    """

    def __init__(
        self,
        model: LatentDiffusion,
        optimizer: OptimizerFactory,
        objective: DiffusionObjective | None = None,
        scheduler: SchedulerFactory | None = None,
        ema_decay: float | None = 0.9999,
        preview: SamplerSettings | None = None,
    ) -> None:
        super().__init__()
        self.model, self.objective = model, objective or DiffusionObjective()
        self.optimizer, self.scheduler = optimizer, scheduler
        self.preview = preview or SamplerSettings(steps=50)
        self.ema = None if ema_decay is None else EMA(self.averaged(), ema_decay)

    def averaged(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad and not name.startswith("first_stage.")}

    def weights(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.model.state_dict().items() if not name.startswith("first_stage.")}

    def reads(self) -> tuple[str, ...]:
        return ("image", *self.model.conditioner.reads)

    def parts(self) -> dict[str, nn.Module]:
        return {"first_stage": self.model.first_stage, "network": self.model.network, "conditioner": self.model.conditioner}

    def configure_optimizers(self) -> list[Optimizer]:
        return self.make_optimizers(self.optimizer, [list(self.averaged().items())], self.scheduler)

    def _latent(self, x: Tensor, random: StepRandom) -> Tensor:
        like = x.new_empty(len(x), *self.model.first_stage.latent_shape(*x.shape[2:]))
        return self.model.encode(x, random.normal("posterior", like)).float()

    def _errors(self, batch: Batch, random: StepRandom) -> tuple[Tensor, Tensor]:
        """Error per sample and its time step, both `(B,)`."""
        z_0 = self._latent(batch["image"], random)
        c = self.model.condition(batch)
        t = random.integers("t", self.model.schedule.T, z_0.device)
        eps = random.normal("eps", z_0)
        error = self.objective(lambda z_t, t: self.model.output(z_t, t, c), z_0, t, eps, self.model.schedule, self.model.parameterization)
        return error, t

    def update(self, batch: Batch, random: StepRandom) -> dict[str, Tensor]:
        if self.model.scale_by_std and self.step == 0 and self._micro == 0:
            self._measure_scale(batch["image"], random)
        conditioner = self.model.conditioner
        if conditioner.drop_rate > 0:
            batch = conditioner.drop(batch, random.chance("drop", conditioner.drop_rate).tolist())
        error, t = self._errors(batch, random)
        loss = error.mean()
        self.backward_through(loss)
        with torch.no_grad():
            early = (t < self.model.schedule.T // 2).float()
            # The two halves move apart in a healthy run: little noise is the harder half for v and eps alike.
            halves = {"loss_low_noise": early, "loss_high_noise": 1 - early}
            logs = {name: (error * half).sum() / half.sum().clamp(min=1) for name, half in halves.items()}
        return {"loss": loss.detach(), **logs}

    @torch.no_grad()
    def _measure_scale(self, x: Tensor, random: StepRandom) -> None:
        """scale = 1 / std over all elements of the first batch (App. G), the same on all devices."""
        like = x.new_empty(len(x), *self.model.first_stage.latent_shape(*x.shape[2:]))
        z = self.model.first_stage.encode(x, random.normal("posterior", like)).double()
        sums = torch.stack([z.new_tensor(float(z.numel())), z.sum(), z.square().sum()])
        count, total, squares = self.trainer.strategy.reduce(sums, reduce_op="sum").tolist()  # type: ignore[union-attr]
        variance = (squares - total**2 / count) / (count - 1)
        self.model.scale.fill_(variance**-0.5)

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        error, _ = self._errors(batch, StepRandom(0, 0, batch["id"]))
        return {"loss": error.mean()}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        x = batch["image"]
        condition = {key: batch[key] for key in self.model.conditioner.reads}
        return {"samples": generate(self.model, condition, range(len(x)), (x.shape[2], x.shape[3]), self.preview)}
