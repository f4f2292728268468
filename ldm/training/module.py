"""The base of both stages: step counter, counter-based randomness, manual optimization, EMA, and state to save."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ldm.data.batch import Batch, Key, value_problems
from ldm.errors import UserError
from ldm.first_stage.base import FirstStage
from ldm.ranges import number
from ldm.rng import StepRNG, derive
from ldm.training.ema import EMA
from ldm.training.optim.factories import Named, OptimizerFactory, SchedulerFactory, naming, scheduled
from ldm.training.optim.restore import restore
from ldm.training.posthoc import PowerEMA
from ldm.training.resuming import OPTIMIZER, SCHEDULER, Changes

SMALLEST_SCALE = 2.0**-10


class TrainingModule(pl.LightningModule):
    """Base of both stages, with manual optimization, so that a step means the same everywhere.

    A step is one batch of the global size, however it is split into micro-batches and devices. `trainer.global_step` is
    the same: callbacks may use either, also after a resume. Lightning's `batch_idx` counts micro-batches since the process started.

    Args:
        optimizer: factory over named parameters.
        scheduler: factory over an optimizer; steps once per training step.

    Attributes:
        step: number of finished training steps.
        seconds: time they took, including validation and saving.
        run_seed, accumulate, gradient_clip: set before fit.
        scaler: loss scaler, also set before fit; None if it is not needed.
        metrics: scalars of this step, detached, on the device.
    """

    def __init__(self, optimizer: OptimizerFactory, scheduler: SchedulerFactory | None = None) -> None:
        super().__init__()
        self.optimizer, self.scheduler = optimizer, scheduler
        self.automatic_optimization = False
        self.step = 0
        self.seconds = 0.0
        self.run_seed = 0
        self.accumulate = 1
        self.gradient_clip: float | None = None
        self.scaler: torch.amp.GradScaler | None = None
        self.metrics: dict[str, Tensor] = {}
        self.ema: EMA | None = None  # set by subclasses, once their parts exist
        self.posthoc: PowerEMA | None = None
        self._micro = 0
        self._schedulers: list[LRScheduler] = []
        self._named: list[Named] = []

    # To be implemented by each stage.

    def averaged(self) -> dict[str, nn.Parameter]:
        """Trained parameters that are averaged and exported."""
        raise NotImplementedError

    def weights(self) -> dict[str, Tensor]:
        """State for inference: everything needed to run the model except frozen parts that are stored elsewhere."""
        raise NotImplementedError

    def training_state(self) -> dict[str, Tensor]:
        """State for resuming: `weights` and all else that training changes."""
        return self.weights()

    def keys(self) -> dict[str, Key]:
        """Batch keys that a step reads."""
        return {"image": Key(shape=(self.stage().image_channels, "H", "W"), low=-1.0, high=1.0)}

    def groups(self) -> list[Named]:
        """Named parameters of each optimizer."""
        return [list(self.averaged().items())]

    def stage(self) -> FirstStage:
        """The first stage that is trained, or whose latents are used."""
        raise NotImplementedError

    def check_size(self, height: int, width: int) -> None:
        """Check that it can train on images of this size.

        Raises:
            ValueError: it cannot.
        """
        self.stage().latent_shape(height, width)

    def parts(self) -> dict[str, nn.Module]:
        """Named parts, for counting parameters."""
        raise NotImplementedError

    def update(self, batch: Batch, random: StepRNG) -> dict[str, Tensor]:
        """Losses and backward passes of one micro-batch; returns scalars to log."""
        raise NotImplementedError

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Validation scalars of one batch, with random numbers that depend on the batch's ids only."""
        raise NotImplementedError

    def validate(self, batches: Iterable[Batch], latest: Mapping[str, float]) -> tuple[dict[str, float], dict[str, str]]:
        """Validation scalars over all batches, and warnings by kind.

        `latest` are the latest training scalars.
        """
        return sample_means(batches, self.evaluate), {}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Named rows of images `(B, C, H, W)` in [-1, 1] that show the progress of training."""
        raise NotImplementedError

    def on_train_start(self) -> None:
        if self.ema is not None and self.ema.updates == 0:
            self.ema.restart()  # the parameters have been moved to their device
        if self.posthoc is not None and self.posthoc.updates == 0:
            self.posthoc.restart()

    # The step.

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Validate conditions while they are on the CPU, where this is cheap; `--check` reads a few samples only.

        The first class index out of range would be the null class, and others an error of the device. Images and maps are not validated:
        it would take time, and `LabelMap` treats unknown classes as unlabelled.
        """
        small = {name: key for name, key in self.keys().items() if not {"H", "h"} & {str(size)[-1:] for size in key.shape}}
        if problems := value_problems(batch, small, "the model"):
            raise UserError(f"step {self.step}: {problems[0]}")
        return batch

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        if self._micro == 0:
            self.metrics = {}
            # Dropout layers use the global generator: seed it per step as well.
            torch.manual_seed(derive(self.run_seed, "dropout", self.step, self.global_rank))
        last = self._micro == self.accumulate - 1
        with nullcontext() if last else self._no_sync():
            logs = self.update(batch, StepRNG(self.run_seed, self.step, draws(batch)))
        for name, value in logs.items():
            self.metrics[name] = self.metrics.get(name, 0.0) + value.detach() / self.accumulate
        self._micro = 0 if last else self._micro + 1
        if last:
            self._take_step()
            self.step += 1
        if getattr(self, "_trainer", None) is not None:  # not for a step outside a run
            tell_lightning(self.trainer, self.step, max(self.step - 1, 0))

    def _no_sync(self) -> Any:
        wrapped = self.trainer.strategy.model
        return wrapped.no_sync() if isinstance(wrapped, nn.parallel.DistributedDataParallel) else nullcontext()

    def _take_step(self) -> None:
        """Step every optimizer with clipped gradients, then the schedules and averages.

        With loss scaling, an optimizer whose gradients are not finite is skipped, and so are the averages of its parameters. The step
        still counts, also for schedules; the next batch uses a lower scale.
        """
        overflowed: list[int] = []
        for i, optimizer in enumerate(self._optimizers()):
            parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            if self.scaler is not None:
                self.scaler.unscale_(optimizer)
            if self.gradient_clip is not None or self.scaler is not None:
                norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
                if self.scaler is not None and not torch.isfinite(norm):
                    overflowed.append(i)
                elif self.gradient_clip is not None:
                    nn.utils.clip_grads_with_norm_(parameters, self.gradient_clip, norm)
                    self.metrics["gradient_norm" + f"_{i}" * (i > 0)] = norm
            if i not in overflowed:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        for scheduler in self._schedulers:
            scheduler.step()
        if self.scaler is not None:
            self._rescale(self.scaler, bool(overflowed))
        if 0 in overflowed:  # the averaged parameters have not changed
            return
        if self.ema is not None:
            self.ema.update()
        if self.posthoc is not None:
            self.posthoc.update()

    def _rescale(self, scaler: torch.amp.GradScaler, overflowed: bool) -> None:
        """Lower the loss scale after an overflow, raise it after many steps without."""
        scaler.update()
        if scaler.get_scale() < SMALLEST_SCALE:
            raise UserError(f"step {self.step}: gradients overflow at every scale; resume with precision bf16-mixed or 32-true")
        if overflowed:
            self.metrics = {}  # they may be infinite as well
        self.metrics |= {"overflows": torch.tensor(float(overflowed)), "loss_scale": torch.tensor(scaler.get_scale())}

    def _optimizers(self) -> list[Optimizer]:
        found = self.optimizers(use_pl_optimizer=False)
        return list(found) if isinstance(found, list) else [found]  # type: ignore[list-item]

    def backward_through(self, loss: Tensor) -> None:
        """Backward pass of the loss of one micro-batch."""
        loss = loss / self.accumulate
        self.manual_backward(loss if self.scaler is None else self.scaler.scale(loss))

    def loss_scale(self) -> float:
        """Factor of the loss before the backward pass, against underflow of gradients in fp16."""
        return 1.0 if self.scaler is None else self.scaler.get_scale()

    def configure_optimizers(self) -> list[Optimizer]:
        """One optimizer per group, each with its own schedule."""
        self._named = self.groups()
        pairs = [scheduled(self.optimizer, self.scheduler, group) for group in self._named]
        self._schedulers = [schedule for _, schedule in pairs if schedule is not None]
        return [optimizer for optimizer, _ in pairs]

    def try_optimizers(self, steps: int = 1, device: str = "cpu") -> None:
        """Build the optimizers and run a step of each on given gradients, as in training; of a schedule also the last of `steps`.

        Capturable optimizers cannot step on the CPU: they are not run if the `device` of the training is a GPU.

        Raises:
            UserError: an optimizer or schedule that cannot be built or needs more, such as LBFGS and ReduceLROnPlateau; a schedule
                that ends earlier, such as OneCycleLR.
        """
        for optimizer in self.configure_optimizers():
            if device != "cuda" or not any(group.get("capturable") for group in optimizer.param_groups):
                with naming(OPTIMIZER, type(optimizer)):
                    optimizer.step()
        for schedule in self._schedulers:
            with naming(SCHEDULER, type(schedule)):
                schedule.step()
                schedule.last_epoch = max(schedule.last_epoch, steps - 1)
                schedule.step()
                number(**{name: value for name, value in vars(schedule).items() if isinstance(value, float)})

    def rates(self) -> dict[str, float]:
        """The current learning rates, by optimizer and group."""
        result = {}
        for i, optimizer in enumerate(self._optimizers()):
            for j, group in enumerate(optimizer.param_groups):
                suffix = "" if i == j == 0 else f"_{i}" if j == 0 else f"_{i}.{j}"
                result[f"lr{suffix}"] = float(group["lr"])
        return result

    # State in plain containers.

    def live_state(self) -> dict[str, Any]:
        """All that is needed to resume exactly, without copies, on the current device."""
        return {
            "step": self.step,
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "seed": self.run_seed,
            "model": dict(self.training_state()),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "posthoc": None if self.posthoc is None else self.posthoc.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers()],
            "schedulers": [scheduler.state_dict() for scheduler in self._schedulers],
        }

    def full_state(self) -> dict[str, Any]:
        """A copy of `live_state` on the CPU."""
        return _to_cpu(self.live_state())  # type: ignore[no-any-return]

    @torch.no_grad()
    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Load `training_state`, whose names and shapes must be the same."""
        for name, value in self.training_state().items():
            value.copy_(state[name])

    def load_progress(self, state: Mapping[str, Any]) -> None:
        """Load what only exists once fit has started: optimizers, schedules and the EMA."""
        try:
            if self.scaler is not None and state.get("scaler"):
                self.scaler.load_state_dict(state["scaler"])
            if self.ema is not None and state["ema"] is not None:
                self.ema.restart()
                self.ema.load_state_dict(state["ema"])
            if self.posthoc is not None:
                if state.get("posthoc") is None:
                    raise ValueError("posthoc_sigma_rels cannot be added on resuming")
                self.posthoc.restart()
                self.posthoc.load_state_dict(state["posthoc"])
            for i, optimizer in enumerate(self._optimizers()):
                pair = optimizer, self._schedulers[i] if self._schedulers else None
                schedule = state["schedulers"][i] if state["schedulers"] else None
                restore(pair, state["optimizers"][i], schedule, self._named[i], self.step, state.get("changes") or Changes())
        except (ValueError, KeyError) as error:
            raise UserError(f"the checkpoint's optimizers, schedules or averages are not those of the config: {error}") from error


def tell_lightning(trainer: pl.Trainer, step: int, batches: int) -> None:
    """Set Lightning's step counters: it would count calls of its optimizer wrappers, which are not used here.

    Args:
        trainer: trainer of the run.
        step: finished training steps.
        batches: the same without those that Lightning adds at the end of a batch; used by its monitors.
    """
    loop = trainer.fit_loop.epoch_loop
    total = loop.manual_optimization.optim_step_progress.total
    total.ready = total.completed = step
    loop._batches_that_stepped = batches


def sample_means(batches: Iterable[Batch], evaluate: Callable[[Batch], dict[str, Tensor]]) -> dict[str, float]:
    """Means over samples of the scalars that `evaluate` returns for every batch."""
    totals: dict[str, float] = {}
    count = 0
    for batch in batches:
        count += len(batch["id"])
        for name, value in evaluate(batch).items():
            totals[name] = totals.get(name, 0.0) + float(value) * len(batch["id"])
    return {name: total / count for name, total in totals.items()}


def draws(batch: Batch) -> list[str]:
    """A name for every draw: the sample's id and its position in the run's order, since a sample can be in a batch twice."""
    if "draw" not in batch:
        return list(batch["id"])
    return [f"{name}@{place}" for name, place in zip(batch["id"], batch["draw"], strict=True)]


def _to_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {key: _to_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_cpu(item) for item in value]
    return value
