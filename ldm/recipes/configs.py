"""The two configs of a folder: stage one and stage two."""

from typing import Any

from ldm.config import AllowedTargets, build
from ldm.errors import UserError
from ldm.nn.meta import on_meta
from ldm.recipes.commented import Because
from ldm.recipes.plan import EPOCHS, FIRST_EPOCHS, Plan
from ldm.recipes.survey import Survey
from ldm.recipes.tasks import Node, Task, images, target

HELD_OUT = ("crop", "flip", "resize")


def first_stage(found: Survey, plan: Plan) -> Node:
    """Stage one: a KL autoencoder without perceptual loss and adversary, whose weights would be a download."""
    tier, f = plan.tier, plan.factor
    autoencoder = target(
        "first_stage.KLAutoencoder",
        channels=Because(plan.latent, f"of the latent, which is {plan.size[0] // f}x{plan.size[1] // f}"),
        width=Because(tier.first_width, f"for {memory_of(plan)}"),
        width_mult=Because(list(plan.first_mult), f"f={f}: images of {plan.size[0]}x{plan.size[1]} pixels are compressed {f} times a side"),
        image_channels=found.channels,
        initial_log_variance=-7.0,
    )
    pixel = target("first_stage.PixelLoss", l1=1.0, l2=2.0, gradient=2.0)
    loss = target("first_stage.AutoencoderLoss", reduction="mean", regularizer_weight=1.0e-6, pixel=pixel)
    model = {"autoencoder": autoencoder, "loss": loss, **optimizer(50)}
    return {
        "model": target("training.AutoencoderTraining", **model),
        "data": data(found, images(found, plan), tier.first_batch),
        "trainer": trainer(plan.first_steps, tier.first_batch, found, FIRST_EPOCHS),
        "paths": folders(found),
    }


def second_stage(found: Survey, plan: Plan, task: Task, first: str, trained: str | None = None) -> Node:
    """Stage two: a UNet that predicts v in the latent space of `first`, a config, or of the trained first stage in `trained`."""
    tier = plan.tier
    levels = len(tier.network_mult)
    channels = Because(plan.latent + task.concat, f"z_t {plan.latent}, condition {task.concat}") if task.concat else plan.latent
    network = target(
        "networks.UNet",
        in_channels=channels,
        out_channels=plan.latent,
        width=Because(tier.network_width, f"for {memory_of(plan)}"),
        width_mult=list(tier.network_mult),
        blocks_per_level=2,
        attention_at=[2**level for level in range(1, levels)],
        head_channels=32,
        **task.network,
    )
    architecture = {"from": f"{first}:model.params.autoencoder"}
    other = {"model": architecture, "strict": Because(False, "the file may have another structure")}
    stage = {"checkpoint": "${paths.first_stage}"} | (other if trained is None else {})
    model = {
        "first_stage": target("checkpoint.load.pretrained", **stage),
        "network": network,
        **({"conditioner": task.conditioner} if task.conditioner else {}),
        "process": target("diffusion.cosine"),
        "parameterization": "v",
        "scale": Because("first_stage", "of latents, as the file of the first stage states; else measured on the first batch"),
    }
    training = {"model": target("model.LatentDiffusion", **model), **optimizer(100), "ema_decay": 0.999}
    paths = {
        key: str(found.beside[at]) for key, at in (("maps", "segmentation"), ("maps", "mask"), ("low", "low_res")) if at in found.beside
    }
    return {
        "model": target("training.DiffusionTraining", **training),
        "data": data(found, task.train, tier.batch),
        "trainer": trainer(plan.steps, tier.batch, found, EPOCHS),
        "sampling": {"sampler": "dpm_solver", "steps": 20, "scale": 1.0, **task.sampling},
        "paths": {
            **folders(found),
            **paths,
            "first_stage": trained or Because(None, "stage one's run: paths.first_stage=logs/STAGE1"),
        },
    }


def fine_tuning(found: Survey, plan: Plan, task: Task, start: str, model: Node, first: str) -> Node:
    """Stage two from the weights of another model: its network and latents, with the data and the condition of a task.

    Args:
        start: run folder or file of the weights.
        model: its node, `ldm.model.LatentDiffusion`.
        first: run folder or file of its first stage.

    Raises:
        UserError: a task that concatenates other channels than the model's.
    """
    config = second_stage(found, plan, task, first)
    params = {key: value for key, value in model["params"].items() if key not in ("first_stage", "conditioner")}
    network = dict(params["network"]["params"])
    channels = int(network["out_channels"]) + task.concat
    conditioner, before = task.conditioner, model["params"].get("conditioner")
    if before is not None and conditioner is not None and _keys(before) == task.keys:
        classes = {key: value for key, value in conditioner["params"].items() if key == "num_classes"}
        conditioner = {**before, "params": {**before.get("params", {}), **classes}}
    elif before is not None and conditioner is None and not task.keys:
        keys = ", ".join(sorted(_keys(before)))
        raise UserError(f"--start {start}: it is conditional on {keys}, which the folder or the task has not: train it without --start")
    elif task.concat:
        raise UserError(f"--start {start}: its condition is another one, and this task adds channels: train it without --start")
    else:
        params["network"] = {**params["network"], "params": {**network, "in_channels": channels, **task.network}}
    stage = target("checkpoint.load.pretrained", checkpoint="${paths.first_stage}")
    params = {"first_stage": stage, **params, **({"conditioner": conditioner} if conditioner else {})}
    same = Because(False, "what does not fit, such as other classes, begins anew and is listed")
    training = config["model"]["params"]
    training["model"] = {"target": model["target"], "params": params}
    training["start"] = target("checkpoint.load.starting_weights", checkpoint="${paths.start}", strict=same)
    training["optimizer"] = {"target": "torch.optim.AdamW", "partial": True, "params": {"lr": Because(2.0e-5, "low: the weights are good")}}
    training["scheduler"]["params"]["total"] = None
    shorter = max(500, config["trainer"]["params"]["steps"].value // 5)
    config["trainer"]["params"]["steps"] = Because(shorter, "a fifth of a training from the beginning")
    config["paths"] |= {"start": start, "first_stage": first}
    return config


def _keys(conditioner: Node) -> set[str]:
    """Batch keys that a trained conditioner reads."""
    with on_meta():
        return set(build(conditioner, AllowedTargets().for_model(), "conditioner").keys)


def optimizer(warmup: int) -> dict[str, Any]:
    """Muon, with a warm-up and a linear decay."""
    schedule = target("training.warmup_linear", warmup=warmup, total="${trainer.params.steps}")
    return {
        "optimizer": {"target": "ldm.training.Muon", "partial": True, "params": {"lr": 0.02, "adam_lr": 1.0e-3}},
        "scheduler": {"target": schedule["target"], "partial": True, "params": schedule["params"]},
    }


def folders(found: Survey) -> dict[str, str]:
    """Paths of the images."""
    return {"images": str(found.root)} | ({} if found.validation is None else {"validation": str(found.validation)})


def data(found: Survey, train: Node, batch: int) -> Node:
    """Training and validation data."""
    return {"params": {"batch_size": batch, "workers": 2, "train": train, "validation": held_out(train, found.validation is not None)}}


def held_out(node: Any, elsewhere: bool) -> Any:
    """The validation set of a training set: other files, in another folder or not, without augmentation."""
    if isinstance(node, dict):
        kept = {key: held_out(value, elsewhere) for key, value in node.items() if key not in HELD_OUT}
        return kept | ({"split": "validation"} if kept.get("split") == "train" else {})
    value = node.value if isinstance(node, Because) else node
    return "${paths.validation}" if elsewhere and value == "${paths.images}" else value


def trainer(steps: int, batch: int, found: Survey, epochs: int) -> Node:
    """Length of training, and how often something is saved and shown."""
    seen = steps * batch
    rule = f"{seen} images, each {seen / max(1, found.count):.0f} times ({epochs} times, within the limits of the device)"
    every = max(100, steps // 20 // 100 * 100)
    return {"params": {"steps": Because(steps, rule), "validate_every": every, "images_every": every, "checkpoint_every": every}}


def memory_of(plan: Plan) -> str:
    """The device in words."""
    return f"a GPU of {plan.tier.memory} GiB or more" if plan.tier.memory else "a CPU"
