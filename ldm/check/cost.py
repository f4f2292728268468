"""What a training costs, estimated before it starts: operations, memory, disk, and time for a given rate.

The model is built at full size on the meta device, so nothing is computed and no file is needed. Formulas:

- operations per image: 3 forward passes of what is trained (a backward pass costs two), and one of the frozen encoder; matrix products
  and convolutions only, 2 per multiplication.
- memory per device: 4 bytes per parameter for weights, gradients, average and each moment of the optimizer, and what the backward
  pass of the micro-batch keeps, at 4 bytes or, in bf16, 2.
- time: operations / (`UTILISATION` x the device's rate of matrix products).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ldm.check.model import build_on_meta, without_checkpoints
from ldm.check.report import Report
from ldm.checkpoint.source import trained_size
from ldm.config import AllowedTargets, Config
from ldm.errors import UserError
from ldm.model import LatentDiffusion
from ldm.nn.meta import on_meta
from ldm.training import AutoencoderTraining, ClassifierTraining, DiffusionTraining
from ldm.training.module import TrainingModule

UTILISATION = 0.4  # share of the rate of large matrix products that training reaches
BACKWARD = 3  # a forward and a backward pass cost three forward passes
GIB = 2**30


@dataclass(frozen=True)
class Cost:
    """The estimated cost of a training.

    Attributes:
        steps, batch: of the config.
        operations: for one image.
        memory: bytes per device, at the micro-batch of the config on one device.
        disk: bytes of the checkpoints that are kept.
    """

    steps: int
    batch: int
    operations: int
    memory: int
    disk: int

    @property
    def images(self) -> int:
        """Images seen."""
        return self.steps * self.batch

    def hours(self, rate: float) -> float:
        """Hours on a device with `rate` operations per second in matrix products."""
        return self.images * self.operations / (UTILISATION * rate) / 3600

    def said(self, rate: float, price: float | None = None) -> str:
        """In words.

        Args:
            rate: operations per second.
            price: of one hour.
        """
        hours = self.hours(rate)
        shown = f"{hours:.1f} h" if hours >= 1 else f"{max(1.0, 60 * hours):.0f} min"
        money = f" ({hours * price:.2f} at {price:g} per hour)" if price else ""
        return (
            f"{self.steps} steps of {self.batch}, {self.images} images; estimated: {shown}{money} at {UTILISATION:.0%} of the "
            f"{rate / 1e12:.2g} TFLOP/s measured here, {self.memory / GIB:.1f} GiB of memory, {self.disk / GIB:.2g} GiB of disk"
        )


def training_cost(config: Config, trust: AllowedTargets | None = None, bytes_kept: int = 4) -> Cost:
    """The cost of a config's training on one device.

    Args:
        config: a valid config.
        trust: allowed targets.
        bytes_kept: per number that the backward pass keeps: 4, or 2 in bf16.

    Raises:
        UserError: its model cannot be built without files that are missing.
    """
    report, trust = Report(), trust or AllowedTargets()
    module = build_on_meta(without_checkpoints(config.data["model"], "model", report), config, trust, report)
    if not isinstance(module, TrainingModule):
        raise UserError((report.problems or report.missing)[0])
    data = (config.data.get("data") or {}).get("params") or {}
    trainer = (config.data.get("trainer") or {}).get("params") or {}
    batch = int(data.get("batch_size", 1))
    forward, frozen, kept = _passes(module, trained_size(config.data) or (256, 256))
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    still = sum(p.numel() for p in module.parameters()) - trained
    moments = 1 if "Muon" in str(config.data["model"]["params"].get("optimizer")) else 2
    state = 4 * trained * (2 + moments)  # weights, average, moments
    return Cost(
        steps=int(trainer.get("steps", 0)),
        batch=batch,
        operations=BACKWARD * forward + frozen,
        memory=state + 4 * trained + 4 * still + kept * bytes_kept * min(batch, int(data.get("max_per_device") or batch)),
        disk=int(trainer.get("keep", 2)) * state + 4 * trained,
    )


def _passes(module: TrainingModule, size: tuple[int, int]) -> tuple[int, int, int]:
    """For one image: operations of a forward pass of what is trained and of what is frozen, and numbers kept for the backward pass."""
    stage = module.stage()
    image = torch.empty(1, stage.image_channels, *size, device="meta")
    with on_meta():
        if isinstance(module, AutoencoderTraining):
            forward, kept = _counted(lambda: stage.decode(stage.encode(image)))
            return forward, 0, kept
        with torch.no_grad():
            frozen = operations(lambda: stage.encode(image))
        shape = stage.latent_shape(*size)
        if isinstance(module, ClassifierTraining):
            forward, kept = _counted(lambda: module.classifier(torch.empty(1, *shape), torch.zeros(1)))
        else:
            assert isinstance(module, DiffusionTraining)
            forward, kept = _counted(lambda: evaluate(module.model, *shape[1:]))
        return forward, frozen, kept


def evaluate(model: LatentDiffusion, h: int, w: int) -> Tensor:
    """One evaluation of the network of a model on the meta device, on a latent of `h` x `w` with a condition of any content."""
    part = model.conditioner
    z = torch.empty(1, model.network.in_channels, h, w)
    context = torch.empty(1, part.length, part.context_channels) if part.context_channels else None
    vector = torch.empty(1, part.vector_channels) if part.vector_channels else None
    return model.network(z, torch.zeros(1), context, vector)  # type: ignore[no-any-return]


def operations(run: Callable[[], object]) -> int:
    """Operations of a pass."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def _counted(run: Callable[[], Any]) -> tuple[int, int]:
    """Operations of a pass, and how many numbers it keeps for its backward pass beside the weights."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage()._cdata] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        return operations(run), sum(kept.values())
