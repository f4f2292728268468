"""Train a classifier on noisy latents, for classifier guidance (LDM-8-G of Tab. 10)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm.data.batch import Batch, Key
from ldm.diffusion.process import Process
from ldm.first_stage.base import FirstStage
from ldm.model import latent_scale
from ldm.networks.classifier import NoisyClassifier
from ldm.rng import StepRNG
from ldm.training.ema import EMA
from ldm.training.module import TrainingModule
from ldm.training.optim.factories import OptimizerFactory, SchedulerFactory


class ClassifierTraining(TrainingModule):
    """Cross-entropy of p(label | z_t, t) at uniformly drawn times.

    Args:
        first_stage: first stage of the model to guide; frozen.
        classifier: classifier on its latents.
        process: process of the model to guide.
        optimizer: factory over named parameters.
        scale, mean: scale and mean of latents of the model to guide.
        scheduler: factory over an optimizer; steps once per training step.
        ema_decay: None disables EMA.

    Raises:
        ValueError: a classifier for latents with another number of channels.
    """

    def __init__(
        self,
        first_stage: FirstStage,
        classifier: NoisyClassifier,
        process: Process,
        optimizer: OptimizerFactory,
        scale: float | Sequence[float] = 1.0,
        mean: Sequence[float] | None = None,
        scheduler: SchedulerFactory | None = None,
        ema_decay: float | None = None,
    ) -> None:
        super().__init__(optimizer, scheduler)
        if classifier.in_channels != first_stage.channels:
            raise ValueError(f"classifier.in_channels is {classifier.in_channels}, but latents have {first_stage.channels} channels")
        self.first_stage, self.classifier, self.process = first_stage, classifier, process
        self.scale: Tensor
        self.mean: Tensor | None
        for name, value in zip(("scale", "mean"), latent_scale(scale, mean, first_stage.channels), strict=True):
            self.register_buffer(name, value, persistent=False)
        self.first_stage.requires_grad_(False).eval()
        self.ema = None if ema_decay is None else EMA(self.averaged(), ema_decay)

    def train(self, mode: bool = True) -> "ClassifierTraining":
        """The first stage stays in eval mode."""
        super().train(mode)
        self.first_stage.eval()
        return self

    def averaged(self) -> dict[str, nn.Parameter]:
        return dict(self.classifier.named_parameters())

    def weights(self) -> dict[str, Tensor]:
        return self.classifier.state_dict()

    def keys(self) -> dict[str, Key]:
        return {**super().keys(), "label": Key(torch.int64, (), None, 0, self.classifier.classes - 1)}

    def stage(self) -> FirstStage:
        return self.first_stage

    def check_size(self, height: int, width: int) -> None:
        _, h, w = self.first_stage.latent_shape(height, width)
        if (h, w) != (self.classifier.size, self.classifier.size):
            raise ValueError(f"latents are {h}x{w}, the classifier was built for {self.classifier.size}x{self.classifier.size}")

    def parts(self) -> dict[str, nn.Module]:
        return {"first_stage": self.first_stage, "classifier": self.classifier}

    def _logits(self, batch: Batch, random: StepRNG) -> Tensor:
        x = batch["image"]
        with torch.no_grad():
            z = self.first_stage.encode(x, self.first_stage.posterior_noise(x, random))
            z_0 = (self.scale * (z if self.mean is None else z - self.mean)).float()
        t = self.process.draw_times(random, z_0.device)
        z_t = self.process.add_noise(z_0, t, random.normal("eps", z_0))
        return self.classifier(self.process.scale_input(z_t, t), self.process.network_time(t)).float()  # type: ignore[no-any-return]

    def update(self, batch: Batch, random: StepRNG) -> dict[str, Tensor]:
        logits = self._logits(batch, random)
        loss = F.cross_entropy(logits, batch["label"])
        self.backward_through(loss)
        return {"loss": loss.detach(), "accuracy": (logits.argmax(1) == batch["label"]).float().mean()}

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        logits = self._logits(batch, StepRNG(0, 0, batch["id"]))
        return {"loss": F.cross_entropy(logits, batch["label"]), "accuracy": (logits.argmax(1) == batch["label"]).float().mean()}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        return {"inputs": batch["image"]}
