"""One run: folder, callbacks, Lightning's trainer, fit."""

import datetime
import itertools
import logging
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from torch import Tensor

from ldm import precision
from ldm.data.classes import class_names
from ldm.errors import UserError
from ldm.nn.weights import mismatch
from ldm.system.files import writing
from ldm.system.signals import signals_handled
from ldm.training.callbacks.checkpoints import Checkpoints
from ldm.training.callbacks.child_processes import ChildProcesses
from ldm.training.callbacks.failures import reporting_failures
from ldm.training.callbacks.loggers import TensorBoard, reporting_threads, tolerant
from ldm.training.callbacks.metrics import MetricLogger
from ldm.training.callbacks.progress import Progress
from ldm.training.callbacks.stopping import CleanStop, TimeLimit
from ldm.training.callbacks.validation import ValidationCallback
from ldm.training.datamodule import DataModule
from ldm.training.launch import cluster_environment
from ldm.training.module import TrainingModule, tell_lightning
from ldm.training.session import record_session
from ldm.training.settings import TrainerSettings

log = logging.getLogger(__name__)


def process_number() -> int:
    """Rank of this process, from the environment of torchrun, SLURM or Lightning; only 0 reports."""
    return int(getattr(rank_zero_only, "rank", None) or 0)


def seed_everything(seed: int) -> None:
    """Seed the global generators of torch, NumPy and Python."""
    pl.seed_everything(seed, verbose=False)


def new_folder(logdir: Path, name: str) -> Path:
    """Create `logs/<time>_<name>/`; a number is added if it already exists."""
    stem = f"{datetime.datetime.now():%Y-%m-%dT%H-%M-%S}_{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}"
    for number in itertools.count(1):
        folder = logdir / (stem if number == 1 else f"{stem}-{number}")
        with writing(folder):
            try:
                folder.mkdir(parents=True)  # atomic, also if two runs start at once
            except FileExistsError:
                continue
        break
    return folder


def fit(
    module: TrainingModule,
    data: DataModule,
    settings: TrainerSettings,
    folder: Path,
    metadata: dict[str, Any],
    seed: int,
    state: dict[str, Any] | None = None,
    callbacks: Iterable[pl.Callback] = (),
    loggers: Iterable[Logger] = (),
    note: str = "",
    resume: str = "",
    price: float | None = None,
) -> bool:
    """Train until `settings.steps` or `settings.max_seconds`, or until a signal to stop.

    Args:
        module, data, settings: training module, data module and trainer settings.
        folder: the run folder.
        metadata: saved in every checkpoint.
        seed: seed of the run.
        state: full state to resume from.
        callbacks, loggers: additional ones of the config.
        note: changes on resuming, for `incidents.jsonl`.
        resume: the command that continues this run, for messages.
        price: of one hour of all devices together; None prints no costs.

    Returns:
        True if all steps are done or the time limit is reached, False if the run was stopped before.
    """
    start = 0
    if state is not None:
        require_fit(state, module.training_state())
        module.load_weights(state["model"])
        module.step = start = int(state["step"])
        module.seconds = float(state.get("seconds", 0.0))
    if start >= settings.steps:
        log.info("nothing to do: step %d of %d is done", start, settings.steps)
        return True
    limit = TimeLimit(settings.max_seconds)
    if limit.reached(module):
        log.info("nothing to do: step %d was reached after %.0f seconds, the limit is %g", start, module.seconds, limit.seconds)
        return True
    data.plan(seed, start, settings.steps)
    configure(module, data, settings, seed)
    metrics = MetricLogger(folder, settings.log_every, start, settings.max_skipped, (state or {}).get("interval"))
    incidents, stop, others = metrics.incidents, CleanStop(), ChildProcesses(folder)
    own = [
        others,
        limit,
        metrics,
        Progress(metrics, settings.steps, settings.max_seconds, settings.share, price),
        stop,
        Checkpoints(folder, settings.checkpoint_every, settings.keep, metadata, metrics, state, settings.checkpoint_seconds),
        ValidationCallback(
            *(folder, data, metrics, settings.validate_every, settings.images_every, settings.validation_batches),
            classes=class_names(metadata.get("config") or {}).get("label", ()),
        ),
    ]
    quiet_lightning()
    writers = tolerant([TensorBoard(folder), *loggers], incidents, metadata["config"], start)
    trainer = make_trainer(settings, folder, [*own, *callbacks], writers)
    others.adopt(trainer)
    tell_lightning(trainer, start, start)
    if module.scaler is not None:
        trainer.precision_plugin.scaler = None  # type: ignore[attr-defined]  # the module scales the loss itself: Lightning's scaler does not support manual steps
    if trainer.is_global_zero:
        with incidents.tolerated("sessions.jsonl"):
            record_session(folder, module, settings, price)
    if state is not None and trainer.is_global_zero:
        incidents.add(start, "resume", f"continued from step {start} {note}".strip())
    with signals_handled(stop.handle), reporting_threads(incidents), reporting_failures(trainer, incidents, module, data, resume, others):
        trainer.fit(module, datamodule=data)
    done = module.step >= settings.steps or limit.reached(module)
    if not done and trainer.is_global_zero:
        cause = stop.requests.name or ("another process" if settings.world_size() > 1 else "a callback")
        incidents.add(module.step, "stopped", f"requested by {cause}, and saved")
    return done


def configure(module: TrainingModule, data: DataModule, settings: TrainerSettings, seed: int) -> None:
    """Seed, accumulation, memory format and precision of the training module."""
    device = torch.device(settings.device_type())
    module.run_seed, module.accumulate, module.gradient_clip = seed, data.accumulate(settings.world_size()), settings.gradient_clip
    if settings.channels_last is True or (settings.channels_last == "auto" and device.type == "cuda"):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    precision.faster_float32(device)
    module.scaler = precision.gradient_scaler(settings.precision, device)


def require_fit(state: dict[str, Any], expected: Mapping[str, Tensor]) -> None:
    """Compare the weights of a checkpoint with those of the config's model, which may be on the meta device.

    Raises:
        UserError: they do not match; names what was changed on resuming as a possible cause.
    """
    if difference := mismatch(state["model"], expected):
        changed = [path for path in state["changes"].paths if path.startswith("model.")] if "changes" in state else []
        raise UserError(f"checkpoint and config differ: {difference}" + f"; changed on resuming: {', '.join(changed)}" * bool(changed))


def make_trainer(settings: TrainerSettings, folder: Path, callbacks: list[pl.Callback], loggers: list[Logger]) -> pl.Trainer:
    """Lightning's trainer with everything disabled that this project does itself."""
    strategy = settings.strategy
    if strategy == "auto" and settings.world_size() > 1:
        # Autoencoder and discriminator of stage one each leave the other's parameters without gradients.
        strategy = "ddp_find_unused_parameters_true"
    try:
        return pl.Trainer(
            max_epochs=1,
            devices=settings.trainer_devices(),
            accelerator=settings.accelerator,
            precision=settings.resolve_precision()[0].precision,  # type: ignore[arg-type]
            strategy=strategy,
            num_nodes=settings.node_count(),
            plugins=cluster_environment(),
            use_distributed_sampler=False,
            callbacks=callbacks,
            logger=loggers,
            default_root_dir=folder,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,  # Lightning logs nothing itself
            **settings.lightning,
        )
    except Exception as error:  # Lightning raises many kinds
        raise UserError(f"trainer.params: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}") from error


def quiet_lightning() -> None:
    """Silence Lightning's warnings about intended settings."""
    for text in (
        ".*num_workers.*",
        ".*does not have many workers.*",
        ".*validation_step.*",
        ".*val_dataloader.*",
        ".*LeafSpec.*",
        ".*in eval mode.*",
        ".*on_before_batch_transfer.*",  # the data module does not override it
        ".*before `optimizer.step.*",
        ".*Checkpoint directory.*",
    ):
        warnings.filterwarnings("ignore", text)
    for name in ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning.accelerators.cuda", "lightning_fabric.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
