"""Their training -> ours: losses, learning rates, data, and complete YAMLs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ldm.errors import UserError
from ldm.interop.compvis import text
from ldm.interop.compvis.autoencoder import AUTOENCODERS, autoencoder
from ldm.interop.compvis.datasets import INSTEAD, dataset, unavailable
from ldm.interop.compvis.model import DIFFUSION, latent_diffusion
from ldm.interop.compvis.nodes import split
from ldm.interop.settings import Node, Settings

STEPS = 1_000_000  # their configs set no end
NO_LOSS = ("torch.nn.Identity", "contperceptual.DummyLoss")
LOGGER_PARAMETERS = ("max_images", "increase_log_steps", "clamp", "rescale", "disabled", "log_on_batch_idx", "log_first_step")
CALLBACKS = ("main.ImageLogger", "main.SetupCallback", "main.CUDACallback", "main.LearningRateMonitor")


def first_stage_loss(target: str, params: Mapping[str, Any] | None, kind: str) -> Node:
    """`LPIPSWithDiscriminator` ("kl") or `VQLPIPSWithDiscriminator` ("vq") -> `AutoencoderLoss`.

    Raises:
        UserError: an unknown parameter, or a part that no released model used (a conditional discriminator, ActNorm).
    """
    p = Settings(target, params)
    discriminator = {"in_channels": p.take("disc_in_channels", 3), "layers": p.take("disc_num_layers", 3)}
    made: Node = {
        "adversarial_start": p.require("disc_start"),
        "adversarial_weight": float(p.take("disc_weight", 1.0)),
        "adversarial_loss": p.take("disc_loss", "hinge"),
        "perceptual_weight": float(p.take("perceptual_weight", 1.0)),
    }
    if made["perceptual_weight"]:
        made["perceptual"] = {"target": "ldm.first_stage.LPIPS", "params": {}}
    p.ignore("pixelloss_weight")  # they store it and never use it
    for key, usual in (("use_actnorm", False), ("disc_conditional", False), ("disc_factor", 1.0)):
        p.expect(key, usual)
    if kind == "kl":
        made |= {
            "regularizer_weight": float(p.take("kl_weight", 1.0)),
            "reduction": "sum",
            "log_variance": float(p.take("logvar_init", 0.0)),
        }
    else:
        discriminator["width"] = p.take("disc_ndf", 64)
        p.expect("perceptual_loss", "lpips")
        p.ignore("n_classes")  # for statistics only
        made |= {"regularizer_weight": float(p.take("codebook_weight", 1.0)), "reduction": "mean"}
        if p.take("pixel_loss", "l1") == "l2":
            made["pixel"] = {"target": "ldm.first_stage.PixelLoss", "params": {"l1": 0.0, "l2": 1.0}}
    p.done()
    made["discriminator"] = {"target": "ldm.networks.PatchDiscriminator", "params": discriminator}
    return {"target": "ldm.first_stage.AutoencoderLoss", "params": made}


def cycle_arguments(target: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
    """One of their three learning-rate functions -> arguments of `ldm.training.optim.lr.cycle_factor`.

    Raises:
        UserError: an unknown target or parameter.
    """
    p = Settings(target, params)
    p.ignore("verbosity_interval")
    if target.endswith("LambdaWarmUpCosineScheduler"):
        names = {"warmup": "warm_up_steps", "lengths": "max_decay_steps", "start": "lr_start", "peak": "lr_max", "end": "lr_min"}
        made = {ours: [p.require(theirs)] for ours, theirs in names.items()}
        shape = "cosine"
    elif target.endswith(("LambdaWarmUpCosineScheduler2", "LambdaLinearScheduler")):
        names = {"warmup": "warm_up_steps", "lengths": "cycle_lengths", "start": "f_start", "peak": "f_max", "end": "f_min"}
        made = {ours: list(p.require(theirs)) for ours, theirs in names.items()}
        shape = "linear" if target.endswith("LambdaLinearScheduler") else "cosine"
        if len({len(values) for values in made.values()}) != 1:
            raise UserError(f"{target}: {', '.join(names.values())} need one entry per cycle each")
    else:
        raise UserError(f"scheduler_config: unknown target {target!r}")
    p.done()
    return {"shape": shape, **made}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def is_compvis(content: Mapping[str, Any]) -> bool:
    """Whether a YAML's content is theirs."""
    model, data = _mapping(content.get("model")), _mapping(content.get("data"))
    target, params = str(model.get("target", "")), model.get("params")
    theirs = target.startswith(("ldm.models.", "taming.models.")) or "base_learning_rate" in model
    inside = isinstance(params, Mapping) and any(key in params for key in ("unet_config", "ddconfig", "first_stage_config"))
    return theirs or inside or "lightning" in content or str(data.get("target", "")).startswith("main.")


def translate(
    content: Mapping[str, Any], source: str, *, first_stage: Callable[[str | None, Node], Node], start: Callable[[str], Node]
) -> dict[str, Any]:
    """An official YAML -> the content of one of ours.

    The learning rate becomes global and explicit: base rate times batch size, but for LSUN-Churches, whose base rate is the
    rate. What their YAML does not say (how long to train) gets a default.

    Args:
        content: of the YAML.
        source: its name, for messages.
        first_stage: (checkpoint, architecture) -> node of a frozen first stage.
        start: checkpoint -> node of the weights to fine-tune.

    Raises:
        UserError: names the file and the unknown target or parameter.
    """
    try:
        return _translate(content, source, first_stage, start)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    except (TypeError, ValueError, AttributeError, KeyError, IndexError, ZeroDivisionError) as error:
        raise UserError(f"{source}: a value in this CompVis config is not of the expected kind: {error}") from error


def _translate(content: Mapping[str, Any], source: str, *nodes: Callable[..., Node]) -> dict[str, Any]:
    p = Settings("top level", content)
    model_node, data_node, lightning = p.take("model"), p.take("data"), p.take("lightning")
    p.done()
    made: dict[str, Any] = {}
    data = _data(data_node, _image_size(model_node))
    if model_node is not None:
        rate_is_base = _is_churches(data_node, source)
        made["model"] = _training(dict(model_node), 1 if rate_is_base else data["params"]["batch_size"], *nodes)
    if model_node is not None or data_node is not None:
        made["data"] = data
    made["trainer"] = {"params": {"steps": STEPS, **_lightning(lightning)}}
    return made


def _is_churches(data_node: Any, source: str) -> bool:
    """Whether it is LSUN-Churches, by its data class; for a YAML without data, by the name under which it was released."""
    train = _mapping(_mapping(_mapping(data_node).get("params")).get("train")).get("target")
    if train is not None:
        return "LSUNChurches" in str(train)
    path = Path(source)
    return path.stem.startswith("lsun_churches") or path.parent.name.startswith("lsun_churches")


def _training(node: dict[str, Any], batch_size: int, *nodes: Callable[..., Node]) -> Node:
    base = node.pop("base_learning_rate", None)
    target, params = split(node, "model")
    if unknown := node.keys() - {"target", "params"}:
        raise UserError(f"model: unknown key {', '.join(map(repr, sorted(unknown)))}")
    if base is not None and (isinstance(base, bool) or not isinstance(base, int | float) or base <= 0):
        raise UserError(f"model: base_learning_rate: expected a positive number, got {base!r}")
    lr = float(f"{float(base or 1e-4) * batch_size:.6g}")
    if target.endswith(AUTOENCODERS):
        return _autoencoder_training(target, params, lr)
    if target.endswith(DIFFUSION):
        return _diffusion_training(target, params, lr, *nodes)
    raise UserError(f"model: unknown target {target!r}; there are {', '.join((*AUTOENCODERS, *DIFFUSION))}")


def _optimizer(name: str, lr: float, **more: Any) -> Node:
    return {"target": f"torch.optim.{name}", "partial": True, "params": {"lr": lr, **more}}


def _autoencoder_training(target: str, params: dict[str, Any], lr: float) -> Node:
    kl, stage = target.endswith("AutoencoderKL"), autoencoder(target, params)
    loss_target, loss_params = split(params.get("lossconfig"), "lossconfig")
    if loss_target.endswith(NO_LOSS):  # exported for use, not for training: only the plain error remains
        loss: Node = {"target": "ldm.first_stage.AutoencoderLoss", "params": {"reduction": "sum" if kl else "mean"}}
    elif loss_target.endswith("losses.LPIPSWithDiscriminator" if kl else "vqperceptual.VQLPIPSWithDiscriminator"):
        loss = first_stage_loss(loss_target, loss_params, "kl" if kl else "vq")
    else:
        raise UserError(f"lossconfig: unknown target {loss_target!r} for {target}")
    made: Node = {"autoencoder": stage, "loss": loss, "optimizer": _optimizer("Adam", lr, betas=[0.5, 0.9])}
    return {"target": "ldm.training.AutoencoderTraining", "params": made}


def _diffusion_training(
    target: str, params: dict[str, Any], lr: float, first_stage: Callable[[str | None, Node], Node], start: Callable[[str], Node]
) -> Node:
    translated = latent_diffusion(target, params)
    stage = translated.model["params"]["first_stage"]
    if stage["target"] != "ldm.first_stage.IdentityFirstStage":
        checkpoint = (params["first_stage_config"].get("params") or {}).get("ckpt_path")
        translated.model["params"]["first_stage"] = first_stage(checkpoint, stage)
    made: Node = {
        "model": translated.model,
        "objective": translated.objective,
        "optimizer": _optimizer("AdamW", lr),
        "ema_decay": 0.9999 if translated.ema else None,
        "ema_of": "network",
        "train_conditioner": translated.train_conditioner,
    }
    if translated.scheduler is not None:
        scheduler_target, scheduler_params = split(translated.scheduler, "scheduler_config")
        arguments = cycle_arguments(scheduler_target, scheduler_params)
        made["scheduler"] = {"target": "ldm.training.cycles", "partial": True, "params": arguments}
    if params.get("ckpt_path"):
        for part in [translated.model["params"].get("conditioner") or {}]:
            if part.get("target") == text.TARGET:  # training starts with the encoder in that file
                part["params"]["stored"] = True
        made["start"] = start(params["ckpt_path"])
    return {"target": "ldm.training.DiffusionTraining", "params": made}


def _image_size(model_node: Any) -> int:
    """Side of the images that a model was made for, where no data says it: the latent's times the first stage's factor."""
    params = _mapping(_mapping(model_node).get("params"))
    unet, stage = (_mapping(_mapping(params.get(key)).get("params")) for key in ("unet_config", "first_stage_config"))
    levels = _mapping(stage.get("ddconfig")).get("ch_mult") or [1]
    return int(unet.get("image_size") or 256 // 2 ** (len(levels) - 1)) * 2 ** (len(levels) - 1)


def _data(node: Any, size: int) -> Node:
    """`main.DataModuleFromConfig` -> `ldm.training.DataModule`; without one, data that is not available."""
    if node is None:
        reason = "this YAML was released for sampling and has no data: to train, give data: in a second file after --base"
        return {"params": {"batch_size": 1, "train": unavailable(reason, size)}}
    target, params = split(node, "data")
    if not target.endswith("main.DataModuleFromConfig"):
        raise UserError(f"data: unknown target {target!r}, expected main.DataModuleFromConfig; {INSTEAD}")
    p = Settings(target, params)
    made: Node = {"batch_size": p.require("batch_size"), "workers": min(int(p.take("num_workers", 4) or 0), 16)}
    made["train"], validation = dataset(p.require("train"), "train"), p.take("validation")
    if validation is not None:
        made["validation"] = dataset(validation, "validation")
    for key in ("test", "predict"):
        if (node := p.take(key)) is not None:
            dataset(node, "validation")
    p.ignore("wrap", "shuffle_test_loader", "use_worker_init_fn", "shuffle_val_dataloader")
    p.done()
    return {"params": made}


def _lightning(node: Any) -> dict[str, Any]:
    """`lightning:` -> those of its settings that `trainer.params` has."""
    p = Settings("lightning", node)
    made: dict[str, Any] = {}
    for name, callback in (p.take("callbacks") or {}).items():
        target, params = split({"target": "", **(callback or {})}, f"lightning.callbacks.{name}")
        if target and not target.endswith(CALLBACKS):
            raise UserError(f"lightning.callbacks.{name}: unknown target {target!r}")
        if target.endswith("ImageLogger"):
            logger = Settings(target, params)
            made |= {"images_every": int(every)} if (every := logger.take("batch_frequency")) else {}
            logger.ignore(*LOGGER_PARAMETERS)
            logger.done()
    trainer = Settings("lightning.trainer", p.take("trainer"))
    if trainer.take("benchmark") is not None:
        made["lightning"] = {"benchmark": True}
    if steps := trainer.take("max_steps"):
        made["steps"] = int(steps)
    # The rule for the rate counts no accumulation, so the batch is theirs before it; devices are this machine's.
    trainer.ignore("accumulate_grad_batches", "gpus", "max_epochs", "accelerator", "num_sanity_val_steps")
    trainer.done()
    p.ignore("modelcheckpoint")  # checkpoints are this project's own
    p.done()
    return made
