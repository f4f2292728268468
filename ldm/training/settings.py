"""Settings of the `trainer:` node of a config."""

import inspect
import re
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytorch_lightning as pl
import torch

from ldm import precision
from ldm.errors import UserError
from ldm.ranges import integer, positive, share
from ldm.system.processes import MOST
from ldm.training.launch import launched

STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false")
# Arguments of Lightning's Trainer that keep their meaning here -> allowed values.
LIGHTNING: dict[str, tuple[Any, ...]] = {
    "benchmark": (True, False, None),
    "detect_anomaly": (True, False),
    "deterministic": (True, False, "warn", None),
    "enable_autolog_hparams": (True, False),
    "profiler": ("simple", "advanced", "pytorch", None),
    "sync_batchnorm": (True, False),
}
# Other arguments -> what to use instead here. Steps, batches and pauses are counted by this project.
INSTEAD = {
    **dict.fromkeys(("max_epochs", "min_epochs", "max_steps", "min_steps", "fast_dev_run", "limit_train_batches"), "steps"),
    **dict.fromkeys(("devices", "accelerator", "precision", "strategy", "num_nodes"), "the same key of trainer.params"),
    **dict.fromkeys(("val_check_interval", "check_val_every_n_epoch"), "validate_every"),
    **dict.fromkeys(("gradient_clip_val", "gradient_clip_algorithm"), "gradient_clip"),
    "max_time": "max_seconds",
    "limit_val_batches": "validation_batches",
    "overfit_batches": "a smaller data set",
    "accumulate_grad_batches": "data.params.max_per_device",
    "log_every_n_steps": "log_every",
    "enable_checkpointing": "checkpoint_every and keep",
    "callbacks": "the config's callbacks:",
    "logger": "the config's loggers:",
    "default_root_dir": "--logdir",
}


def parsed_devices(devices: Any) -> int | str | list[int]:
    """ "auto", a number of devices, or a list of indices; "2" is a number and "0,2" a list, as Lightning reads them.

    Raises:
        ValueError: anything else.
    """
    found = devices
    if isinstance(found, str) and re.fullmatch(r"[0-9]+(,[0-9]+)*,?", found):
        found = [int(part) for part in found.split(",") if part] if "," in found else int(found)
    if found in ("auto", -1):
        return "auto"
    several = isinstance(found, list) and bool(found) and len(set(found)) == len(found) and min(found) >= 0
    if not (several or (isinstance(found, int) and found >= 1)):
        raise ValueError(f"devices: expected a number of at least 1, a list like [0, 1], or auto, got {devices!r}")
    return found  # type: ignore[no-any-return]


@dataclass(frozen=True)
class TrainerSettings:
    """Length of training, devices, and intervals of logging, validation and checkpoints.

    Attributes:
        steps: training batches of the global size, that is, updates of the generator.
        max_seconds: end training after this time, over all resumes; None disables the limit. The result then depends on the machine,
            so the learning rate schedule should not depend on the number of steps.
        devices: number of devices, "auto" for all, or a list of indices.
        accelerator: "auto", "cpu", "cuda", "mps".
        precision: precision of the forward and backward pass; "auto" is bf16 if the device supports it in hardware.
        strategy: Lightning's strategy; "auto" is DDP with several devices.
        num_nodes: number of machines.
        gradient_clip: maximum norm of the gradients of a step; None disables clipping.
        channels_last: memory format of the networks; "auto" enables it with CUDA, where it is faster.
        log_every: steps between rows of metrics.
        images_every: steps between grids of images; 0 disables them.
        validate_every: steps between validations; 0 disables them.
        validation_batches: maximum number of validation batches, spread over the set and its classes; always the same samples.
        checkpoint_every: steps between checkpoints; there is always one at the end.
        checkpoint_seconds: seconds of training between additional checkpoints; None disables them.
        keep: number of full checkpoints to keep.
        max_skipped: stop if more than this share of the samples had to be skipped.
        share: share of this training in the total time of what it is part of, such as a demo, in (0, 1]; for the time estimate.
        lightning: further arguments of Lightning's Trainer.
    """

    steps: int
    max_seconds: float | None = None
    devices: int | str | list[int] = "auto"
    accelerator: str = "auto"
    precision: str = "auto"
    strategy: str = "auto"
    num_nodes: int = 1
    gradient_clip: float | None = None
    channels_last: bool | Literal["auto"] = "auto"
    log_every: int = 50
    images_every: int = 1000
    validate_every: int = 1000
    validation_batches: int = 8
    checkpoint_every: int = 1000
    checkpoint_seconds: float | None = None
    keep: int = 2
    max_skipped: float = 0.1
    share: float = 1.0
    lightning: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "checkpoint_every", "keep", "num_nodes", "validation_batches"):
            integer(**{name: getattr(self, name)})
        integer(0, images_every=self.images_every, validate_every=self.validate_every)
        positive(max_seconds=self.max_seconds, checkpoint_seconds=self.checkpoint_seconds)
        positive(gradient_clip=self.gradient_clip, share=self.share)
        share(max_skipped=self.max_skipped, share=self.share)
        if self.accelerator not in ("auto", "cpu", "cuda", "gpu", "mps"):
            raise ValueError(f"accelerator {self.accelerator!r} is unknown; there are auto, cpu, cuda, mps")
        precision.require_training(self.precision, self.accelerator)
        if self.strategy.startswith("fsdp"):
            raise ValueError(f"strategy {self.strategy!r} is not supported: it splits weights over devices; use ddp")
        if re.match("ddp_(spawn|fork|notebook)", self.strategy):
            raise ValueError(f"strategy {self.strategy!r} is not supported: its processes would not know the run folder; use ddp")
        if self.strategy not in STRATEGIES:
            raise ValueError(f"strategy {self.strategy!r} is unknown; there are {', '.join(STRATEGIES)}")
        for key, value in self.lightning.items():
            if key not in inspect.signature(pl.Trainer).parameters:
                raise ValueError(f"lightning: Lightning's Trainer takes no {key!r}")
            if key not in LIGHTNING:
                instead = f": use {INSTEAD[key]}" if key in INSTEAD else " and cannot be changed"
                raise ValueError(f"lightning: {key!r} is set by this project{instead}")
            if value not in LIGHTNING[key]:
                raise ValueError(f"lightning: {key} expects one of {', '.join(map(str, LIGHTNING[key]))}, got {value!r}")
        object.__setattr__(self, "devices", parsed_devices(self.devices))

    def require_device(self) -> None:
        """Check that the accelerator is available, before training starts.

        Raises:
            UserError: it is not.
        """
        kind = self.device_type()
        available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if not available[kind]:
            raise UserError(f"trainer.params.accelerator: {self.accelerator} is not available on this machine")
        try:
            precision.require_training(self.precision, kind)
        except ValueError as error:
            raise UserError(f"trainer.params: {error}") from error
        if kind == "cuda" and self.device_count() > torch.cuda.device_count():
            raise UserError(f"trainer.params: {self.device_count()} CUDA devices are requested, {torch.cuda.device_count()} are available")
        if kind == "cuda" and max(self.devices if isinstance(self.devices, list) else [0]) >= torch.cuda.device_count():
            raise UserError(f"trainer.params.devices: {self.devices!r}: available are 0 to {torch.cuda.device_count() - 1}")
        if kind == "cpu" and self.device_count() > MOST:
            raise UserError(f"trainer.params.devices: {self.device_count()} processes on a CPU are requested, at most {MOST} are supported")
        if kind == "mps" and self.world_size() > 1:
            raise UserError(f"trainer.params.accelerator: mps supports one process, and there are {self.world_size()}: use cpu")

    def device_type(self) -> str:
        """Type of the training device: "cuda", "mps" or "cpu"."""
        if self.accelerator != "auto":
            return "cuda" if self.accelerator == "gpu" else self.accelerator
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"

    def device_count(self) -> int:
        """Devices per machine; one per process if the processes were started externally."""
        if (launch := launched()) is not None:
            return launch.local
        if isinstance(self.devices, list):
            return len(self.devices)
        if self.devices == "auto":
            return max(1, torch.cuda.device_count()) if self.device_type() == "cuda" else 1
        return int(self.devices)

    def world_size(self) -> int:
        """Total number of processes."""
        return self.device_count() * self.node_count()

    def node_count(self) -> int:
        """Machines."""
        launch = launched()
        return self.num_nodes if launch is None else launch.nodes

    def trainer_devices(self) -> int | str | list[int]:
        """`devices` in Lightning's format."""
        count = self.device_count()
        if self.device_type() == "cpu":
            return count
        if isinstance(self.devices, list) and len(self.devices) == count:
            return self.devices
        return "auto" if self.devices == "auto" and launched() is None else count

    def resolve_precision(self, kept: str | None = None) -> tuple["TrainerSettings", str]:
        """A copy with "auto" precision replaced for this machine, and a note about it.

        Args:
            kept: the precision chosen for "auto" when a resumed run was started; it is kept if the device supports it in hardware.
        """
        device = torch.device(self.device_type())
        here = precision.for_training(self.precision, device)
        if self.precision != "auto" or kept is None or kept == here:
            return replace(self, precision=here), ""
        if kept == "32-true":
            return replace(self, precision=kept), ""
        note = f"the run began in {kept}, which this {device.type} does not multiply in hardware: continues in {here}"
        return replace(self, precision=here), note
