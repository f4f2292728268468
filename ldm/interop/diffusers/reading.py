"""A diffusers folder -> a config node of ours and weights under our names."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from ldm.config import AllowedTargets, build
from ldm.errors import MissingFile, UserError
from ldm.interop.diffusers.autoencoder import AUTOENCODERS, read_autoencoder, with_quant_convs
from ldm.interop.diffusers.conditioner import read_conditioner
from ldm.interop.diffusers.files import WEIGHTS, read_settings, read_tensors
from ldm.interop.diffusers.scheduler import check_class, read_scheduler
from ldm.interop.diffusers.settings import Settings
from ldm.interop.diffusers.unet_reading import CONDITIONED, PLAIN, read_unet
from ldm.interop.diffusers.weights import from_diffusers
from ldm.interop.settings import Node
from ldm.model import latent_scale
from ldm.nn.meta import on_meta
from ldm.system.weights import read_weights

PIPELINES = ("LDMPipeline", "LDMTextToImagePipeline", "LDMSuperResolutionPipeline")
T = TypeVar("T")
CONFIG, INDEX = "config.json", "model_index.json"
STAGES = ("vqvae", "vae")  # folders of the autoencoder of a model
KINDS = (*AUTOENCODERS, PLAIN, CONDITIONED)


@dataclass(frozen=True)
class DiffusersModel:
    """The content of a folder.

    Attributes:
        node: to be built by `ldm.config.build`: a `LatentDiffusion`, a first stage or a `UNet`.
        weights: under the names of what the node builds, all of them.
        notes: what the user should know.
        size: side of the images of a model, if the folder contains it.
        latents: of a first stage, see `FirstStage.latents`.
    """

    node: Node
    weights: dict[str, Tensor]
    notes: list[str] = field(default_factory=list)
    size: int | None = None
    latents: dict[str, Any] = field(default_factory=dict)


def is_folder(folder: Path) -> bool:
    """Whether a folder looks like one of diffusers'."""
    return any((folder / name).exists() for name in (INDEX, CONFIG, "unet", "vqvae", "vae"))


def is_autoencoder(names: Iterable[str]) -> bool:
    """Whether these are names of the weights of a diffusers autoencoder."""
    return any(name.startswith(("encoder.down_blocks.", "encoder.mid_block.", "encoder.layers.")) for name in names)


def read_folder(folder: Path) -> DiffusersModel:
    """Read a diffusers folder: a model, a UNet or an autoencoder.

    Raises:
        MissingFile: a file of such a folder; says which.
        UserError: a setting that changes the computation and that this project cannot express; names file, key and value.
    """
    if not folder.is_dir():
        raise MissingFile(f"{folder}: no such folder; expected one with {INDEX} or {CONFIG} as diffusers writes it")
    if (folder / INDEX).is_file() or (folder / "unet").is_dir():
        return _model(folder)
    kind = _kind(folder)
    if kind in (PLAIN, CONDITIONED):
        return DiffusersModel(*_unet(folder))
    return read_first_stage(folder)


def read_first_stage(path: Path) -> DiffusersModel:
    """Read the autoencoder of a folder of a model, or of an autoencoder, whose weights may be named instead.

    Raises:
        MissingFile, UserError: as `read_folder`.
    """
    folder = path if path.is_dir() else path.parent
    if not (folder / CONFIG).is_file():
        folder = _stage_folder(folder) or folder
    node, weights, latents, notes = _first_stage(folder, path if path.is_file() else None)
    stated = latents not in ({}, {"scale": 1.0}) and not (notes and node["target"].endswith("VQAutoencoder"))  # their default says nothing
    if not stated:
        return DiffusersModel(node, weights)
    note = f"{folder / CONFIG}: scaling_factor {latents['scale']} is for a model on top of it (scale: first_stage)"
    return DiffusersModel(node, weights, [*notes, note], latents=latents)


def _stage_folder(folder: Path) -> Path | None:
    """The folder of the autoencoder in that of a model."""
    return next((folder / name for name in STAGES if (folder / name).is_dir()), None)


def _model(folder: Path) -> DiffusersModel:
    index = read_settings(folder / INDEX, "the parts") if (folder / INDEX).is_file() else {}
    _check_index(folder, index)
    stage_folder = _stage_folder(folder) or folder / STAGES[0]
    stage, stage_weights, latents, notes = _first_stage(stage_folder)
    scale, mean = latents.get("scale", 1.0), latents.get("mean")
    if index.get("_class_name") == "LDMSuperResolutionPipeline" and scale != 1.0:
        notes = [f"{stage_folder / CONFIG}: scaling_factor {scale} is not used by LDMSuperResolutionPipeline; 1 was taken"]
        scale = 1.0
    if index and (mean or isinstance(scale, list)):
        key = "shift_factor, latents_mean and latents_std"
        raise UserError(f"{stage_folder / CONFIG}: {key} are not used by {index.get('_class_name')}: expected scaling_factor only")
    with on_meta():
        shape = build(stage, AllowedTargets(), str(stage_folder / CONFIG))
    network, network_weights = _unet(folder / "unet")
    process, parameterization, more = _scheduler(folder / "scheduler" / "scheduler_config.json")
    extra = network["params"]["in_channels"] - shape.channels
    conditioner, condition_weights = read_conditioner(folder, index, extra, "context_channels" in network["params"])
    params: dict[str, Any] = {"first_stage": stage, "network": network, "process": process, "parameterization": parameterization}
    factor, shift = latent_scale(scale, mean, shape.channels)
    weights = {
        **_below("first_stage", stage_weights),
        **_below("network", network_weights),
        **_below("conditioner", condition_weights),
        "scale": factor,
        **({} if shift is None else {"mean": shift}),
    }
    if conditioner is not None:
        params["conditioner"] = conditioner
    node = {"target": "ldm.model.LatentDiffusion", "params": {**params, "scale": scale, **({"mean": mean} if mean else {})}}
    latent_size = read_settings(folder / "unet" / CONFIG, "the settings of the network").get("sample_size")
    return DiffusersModel(node, weights, [*notes, *more], latent_size * shape.factor if isinstance(latent_size, int) else None)


def _check_index(folder: Path, index: Mapping[str, Any]) -> None:
    if "text_encoder" in index or (folder / "text_encoder").is_dir():
        kind = (index.get("text_encoder") or ["", "a text encoder"])[1]
        raise UserError(
            f"{folder / INDEX}: text_encoder is {kind}: the layout of Stable Diffusion cannot be read yet, expected one of {PIPELINES}"
        )
    if index and index.get("_class_name") not in PIPELINES:
        raise UserError(
            f"{folder / INDEX}: _class_name={index.get('_class_name')!r} is not supported, expected one of {', '.join(PIPELINES)}"
        )


def _kind(folder: Path) -> str:
    path = folder / CONFIG
    kind = read_settings(path, "the settings of a diffusers part").get("_class_name")
    if kind not in KINDS:
        raise UserError(f"{path}: _class_name={kind!r} is not supported, expected {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    return str(kind)


def _settings(folder: Path, *kinds: str) -> tuple[Settings, str]:
    kind = _kind(folder)
    if kind not in kinds:
        raise UserError(f"{folder / CONFIG}: _class_name={kind!r}, expected {' or '.join(kinds)}")
    return Settings(folder / CONFIG, read_settings(folder / CONFIG, "the settings of a diffusers part")), kind


def _unet(folder: Path) -> tuple[Node, dict[str, Tensor]]:
    settings, kind = _settings(folder, PLAIN, CONDITIONED)
    node = _read(settings, lambda: read_unet(settings, kind))
    return node, _weights(node, folder)


def _first_stage(folder: Path, file: Path | None = None) -> tuple[Node, dict[str, Tensor], dict[str, Any], list[str]]:
    settings, kind = _settings(folder, *AUTOENCODERS)
    values = dict(settings.left)
    node, latents, notes = _read(settings, lambda: read_autoencoder(settings, kind))
    state = read_tensors(folder) if file is None else read_weights(file)[0]
    return node, _fitted(node, with_quant_convs(state, values, node), folder), latents, notes


def _weights(node: Node, folder: Path) -> dict[str, Tensor]:
    return _fitted(node, read_tensors(folder), folder)


def _fitted(node: Node, state: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    with on_meta():
        module = build(node, AllowedTargets(), str(folder / CONFIG))
    return from_diffusers(module, state, folder / WEIGHTS)


def _scheduler(path: Path) -> tuple[Node, str, list[str]]:
    values = read_settings(path, "the noise schedule")
    check_class(path, values.get("_class_name"))
    settings = Settings(path, values)
    return _read(settings, lambda: read_scheduler(settings))


def _read(settings: Settings, read: Callable[[], T]) -> T:
    """Call `read`; a value of an unexpected type is an error in the file."""
    try:
        return read()
    except (TypeError, ValueError, IndexError, ZeroDivisionError, RuntimeError) as error:
        raise UserError(f"{settings.where}: a value is not of the expected kind ({str(error).splitlines()[0]})") from error


def _below(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in weights.items()}
