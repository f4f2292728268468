"""A model of ours -> a folder that diffusers' own classes load."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ldm.conditioning import TextTransformer, Unconditional
from ldm.config import AllowedTargets, build
from ldm.diffusion import DiscreteProcess
from ldm.errors import UserError
from ldm.first_stage import FirstStage
from ldm.interop.diffusers.autoencoder import KL, write_autoencoder
from ldm.interop.diffusers.conditioner import is_low_res, write_conditioner
from ldm.interop.diffusers.files import VERSION, WEIGHTS, write_json, write_tensors
from ldm.interop.diffusers.scheduler import PREDICTIONS, write_scheduler
from ldm.interop.diffusers.settings import parameters
from ldm.interop.diffusers.text import is_ldm_bert, write_bert, write_tokenizer
from ldm.interop.diffusers.unet import write_unet
from ldm.interop.diffusers.weights import to_diffusers
from ldm.interop.settings import Node
from ldm.model import LatentDiffusion
from ldm.nn.meta import on_meta

PLAIN, TEXT, SUPER_RESOLUTION = "LDMPipeline", "LDMTextToImagePipeline", "LDMSuperResolutionPipeline"
TEXT_FACTOR = 8  # image size over latent size, fixed in the code of LDMTextToImagePipeline


@dataclass(frozen=True)
class Component:
    """One class of diffusers: its settings and its weights."""

    config: dict[str, Any]
    weights: dict[str, Tensor]

    def write(self, folder: Path) -> None:
        """Settings and weights, under the names that diffusers looks for."""
        write_tensors(folder / WEIGHTS, self.weights)
        write_json(folder / "config.json", {"_diffusers_version": VERSION, **self.config})


def write_folder(
    model: LatentDiffusion | FirstStage, node: Node, folder: Path, size: int | None = None, latents: Mapping[str, Any] | None = None
) -> list[str]:
    """Write a model as a diffusers folder. Nothing is written if any of it is refused.

    Args:
        model: a latent diffusion model, or a first stage alone.
        node: the config node it was built from.
        folder: new, or empty.
        size: side of a pipeline's images in pixels by default; `LDMPipeline`, which takes no size, does not run without it.
        latents: scale and mean of a first stage's latents, see `FirstStage.latents`; None if they are unknown.

    Returns:
        What the user should know about the folder.

    Raises:
        UserError: something that diffusers cannot express; says what and why.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: already exists; expected a new or an empty folder")
    if isinstance(model, FirstStage):
        _first_stage(model, node, latents, size).write(folder)
        return []
    return _write_model(model, node, folder, size)


def _write_model(model: LatentDiffusion, node: Node, folder: Path, size: int | None) -> list[str]:
    p = parameters(node, "model", {"ldm.model.LatentDiffusion": LatentDiffusion})
    latents = _latents(model, p["scale"])
    first_stage = _first_stage(model.first_stage, p["first_stage"], latents, size)
    _agree(model.network, p["network"], "network")
    latent_size = None if size is None else _latent_size(model, size)
    unet = Component(write_unet(p["network"], latent_size), to_diffusers(model.network))
    scheduler = {"_diffusers_version": VERSION, **write_scheduler(_discrete(model), p["process"], _named(p["parameterization"]))}
    pipeline = _pipeline(model)
    if pipeline is not None and ("mean" in latents or isinstance(latents["scale"], list)):
        raise UserError(f"model: a scale or a mean for each channel of the latents; diffusers' {pipeline} knows one factor for all")
    autoencoder = "vae" if pipeline is None and first_stage.config["_class_name"] == KL else "vqvae"
    first_stage.write(folder / autoencoder)
    unet.write(folder / "unet")
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    notes = write_conditioner(model.conditioner, p["conditioner"] or {}, folder, pipeline == TEXT)
    notes += _write_text(model, folder) if pipeline == TEXT else []
    if pipeline is None:
        return [*notes, f"no pipeline of diffusers has these conditions: {autoencoder}/, unet/ and scheduler/ load one by one"]
    parts = {autoencoder: ["diffusers", first_stage.config["_class_name"]], "unet": ["diffusers", unet.config["_class_name"]]}
    parts["scheduler"] = ["diffusers", "DDIMScheduler"]
    if pipeline == TEXT:
        parts |= {"bert": ["latent_diffusion", "LDMBertModel"], "tokenizer": ["transformers", "BertTokenizer"]}
    write_json(folder / "model_index.json", {"_class_name": pipeline, "_diffusers_version": VERSION, **parts})
    if pipeline == PLAIN and first_stage.config["_class_name"] == KL:
        notes.append("LDMPipeline is made for a VQModel: diffusers says so when it loads this AutoencoderKL, and works")
    if pipeline == PLAIN and size is None:
        notes.append("unet/config.json has no sample_size: LDMPipeline needs one; give the image size when writing")
    return notes


def _discrete(model: LatentDiffusion) -> DiscreteProcess:
    if not isinstance(model.process, DiscreteProcess):
        raise UserError(
            f"process {type(model.process).__name__}: expected one with discrete timesteps (linear, scaled_linear, cosine, ...)"
        )
    return model.process


def _named(parameterization: Any) -> str:
    if not isinstance(parameterization, str) or parameterization not in PREDICTIONS:
        raise UserError(f"parameterization {parameterization!r}: expected {' or '.join(PREDICTIONS)}")
    return str(parameterization)


def _latents(model: LatentDiffusion, named: Any) -> dict[str, Any]:
    """Scale and mean of latents, see `FirstStage.latents`; the scale with the digits of the node if these give the same float32."""
    scale: Any = model.scale.flatten().tolist() if model.scale.ndim else float(model.scale)
    if not bool(model.scale.isfinite().all()) or not bool(model.scale.all()):
        raise UserError(f"model: scale is {scale}: it is measured on the first training batch, expected a number")
    if isinstance(named, int | float) and float(torch.tensor(float(named))) == scale:
        scale = float(named)
    if isinstance(scale, list) and len({*scale}) == 1 and model.mean is None:
        scale = scale[0]
    return {"scale": scale} | ({} if model.mean is None else {"mean": model.mean.flatten().tolist()})


def _write_text(model: LatentDiffusion, folder: Path) -> list[str]:
    assert isinstance(model.conditioner, TextTransformer)
    write_bert(model.conditioner, folder / "bert")
    return write_tokenizer(model.conditioner.tokenizer, folder / "tokenizer")  # type: ignore[arg-type]


def _pipeline(model: LatentDiffusion) -> str | None:
    """The pipeline class for these parts; None if there is none."""
    if isinstance(model.conditioner, Unconditional):
        return PLAIN
    if is_ldm_bert(model.conditioner) and model.first_stage.factor == TEXT_FACTOR:
        return TEXT
    # that pipeline ignores the scale when it decodes
    unscaled = model.scale.ndim == 0 and float(model.scale) == 1.0 and model.mean is None
    return SUPER_RESOLUTION if is_low_res(model.conditioner, model.first_stage.channels) and unscaled else None


def _first_stage(model: FirstStage, node: Node, latents: Mapping[str, Any] | None, size: int | None) -> Component:
    config = write_autoencoder(node, latents, size)
    _agree(model, node, "first_stage")
    return Component(config, to_diffusers(model))


def _latent_size(model: LatentDiffusion, size: int) -> int:
    step = model.size_multiple
    if size < step or size % step:
        raise UserError(f"size {size}: expected a multiple of {step}, the factors of the first stage and of the UNet")
    return size // model.first_stage.factor


def _agree(module: nn.Module, node: Node, where: str) -> None:
    """Require that a node describes a module, because settings come from the node and weights from the module."""
    with on_meta():
        described = build(node, AllowedTargets(), where)
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    expected = {name: tuple(value.shape) for name, value in described.state_dict().items()}
    if shapes != expected:
        name = min(name for name in shapes.keys() | expected.keys() if shapes.get(name) != expected.get(name))
        raise UserError(f"{where}: the node does not describe the model: {name} is {shapes.get(name)}, the node makes {expected.get(name)}")
