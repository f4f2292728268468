"""Whole CompVis state dicts <-> our weights: renaming, and nothing else that could change a bit.

Our side is a flat dict of names: `network.*`, `conditioner.*`, `first_stage.*`, `scale` for a latent diffusion model, the
autoencoder's own names for a first stage. Where a checkpoint has both an average and the weights it averages, the average
goes under the plain names, because that is what one samples with, and the others below `raw.`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ldm.conditioning import ClassEmbedding, ConcatImage, Conditioner, Joint, LabelMap, LayoutTransformer, PretrainedText, TextTransformer
from ldm.diffusion.process import DiscreteProcess
from ldm.errors import UserError
from ldm.first_stage.base import FirstStage
from ldm.interop.compvis import tables
from ldm.interop.compvis.names import names_of
from ldm.interop.leftovers import drop_bookkeeping
from ldm.model import LatentDiffusion
from ldm.nn.weights import mismatch

RAW = "raw."
LOSS = "loss."
UNET = "model.diffusion_model."
EMA = "model_ema."
ALIGNMENT = ("foundation_model.", "linear_proj.")  # of VA-VAE: a vision model, and the map to it, that its training compares latents with
TRANSPOSED = ("vector.weight",)  # their label embedding (classes, width) is our linear map of one-hot vectors
IGNORED = ("lvlb_weights",)  # a buffer of theirs that some versions store


@dataclass
class Weights:
    """Our weights out of their checkpoint.

    Attributes:
        tensors: by our names.
        ema: decay and number of updates of the average, where there is one.
        dropped: keys that have no place here, for the record.
    """

    tensors: dict[str, Tensor]
    ema: dict[str, float | int] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)

    def chosen(self, raw: bool = False) -> dict[str, Tensor]:
        """What a model loads: the average, or with `raw` the weights as they were trained."""
        return choose(self.tensors, raw)


def choose(tensors: Mapping[str, Tensor], raw: bool = False) -> dict[str, Tensor]:
    """Plain names only, optionally with the values below `raw.` in their place; without the loss."""
    plain = {name: value for name, value in tensors.items() if not name.startswith((RAW, LOSS, "objective."))}
    return plain | {name.removeprefix(RAW): value for name, value in tensors.items() if raw and name.startswith(RAW)}


def model_names(model: LatentDiffusion) -> dict[str, str]:
    """Our names of a whole model -> theirs (the network's raw weights)."""
    names = {f"network.{ours}": UNET + theirs for ours, theirs in names_of(model.network).items()}
    if any(True for _ in model.first_stage.parameters()):
        names |= {f"first_stage.{ours}": f"first_stage_model.{theirs}" for ours, theirs in names_of(model.first_stage).items()}
    names |= {f"conditioner.{ours}": f"cond_stage_model.{theirs}" for ours, theirs in _conditioner_names(model.conditioner)}
    if model.scale_by_std:
        names["scale"] = "scale_factor"
    return names


def _conditioner_names(conditioner: Conditioner) -> Iterator[tuple[str, str]]:
    if isinstance(conditioner, TextTransformer | LayoutTransformer):
        for ours, theirs in names_of(conditioner.transformer).items():
            yield f"transformer.{ours}", f"transformer.{theirs}"
    elif isinstance(conditioner, ClassEmbedding):
        yield "embedding.weight", "embedding.weight"
    elif isinstance(conditioner, LabelMap):
        for leaf in conditioner.rescaler.state_dict():
            yield f"rescaler.{leaf}", leaf.replace("conv.", "channel_mapper.")
    elif isinstance(conditioner, PretrainedText):
        for leaf in conditioner.encoder.state_dict() if conditioner.stored else ():
            yield f"encoder.{leaf}", f"transformer.text_model.{leaf.removeprefix('text_model.')}"
    elif next(conditioner.parameters(), None) is not None:
        raise UserError(f"{type(conditioner).__name__} has no counterpart in CompVis checkpoints")


def encodes_condition(conditioner: Conditioner) -> bool:
    """Whether the conditioner is the first stage, which their checkpoints then store twice."""
    parts = list(conditioner.parts) if isinstance(conditioner, Joint) else [conditioner]
    return any(isinstance(part, ConcatImage) and part.encode_first for part in parts)


def ema_name(theirs: str) -> str:
    """Name of a network parameter's average: theirs without dots."""
    return EMA + theirs.removeprefix("model.").replace(".", "")


def _tensor(ours: str, value: Tensor, shape: tuple[int, ...] = ()) -> Tensor:
    """In our layout, or back in theirs; `shape` is ours, where it may be a 1x1 convolution for a linear map of theirs."""
    if shape == (*value.shape, 1, 1):
        return value[:, :, None, None]
    return value.T.contiguous() if ours.removeprefix("network.") in TRANSPOSED else value


def discrete(model: LatentDiffusion) -> DiscreteProcess:
    """The model's process.

    Raises:
        UserError: one that these checkpoints have no place for.
    """
    if not isinstance(model.process, DiscreteProcess):
        raise UserError(f"CompVis checkpoints support discrete timesteps only, not {type(model.process).__name__}")
    return model.process


def from_state(
    model: LatentDiffusion, state: Mapping[str, Tensor], source: str, ema: bool | None = None, log_variance: bool | None = None
) -> Weights:
    """Take a whole state dict apart.

    Args:
        model: the architecture (on any device, the meta device too).
        state: theirs.
        source: for messages.
        ema, log_variance: whether its config says that it contains averages, and learned log variances; None means unknown.

    Raises:
        UserError: keys that are missing, or left over and not among those that are known to have no place here; a tensor of
            another shape; schedule buffers of another schedule.
    """
    names = model_names(model)
    left = dict(state)
    result = Weights(_take(names, model, left, source))
    if ema is False and any(key.startswith(EMA) for key in left):
        # Their code does not look at averages that its config denies; neither is the model that they would make asked for.
        result.dropped += [key for key in left if key.startswith(EMA)]
        left = {key: value for key, value in left.items() if not key.startswith(EMA)}
    _take_ema(names, model, left, result, source)
    if ema and not result.ema:
        raise UserError(f"{source}: its config has use_ema (by default), but it holds no averages (model_ema.*): set use_ema: false there")
    if log_variance is False and _is_zero(left.get("logvar")):
        result.dropped.append("logvar")  # a buffer of newer versions, where the loss is weighted by nothing that was learned
        del left["logvar"]
    if log_variance is not None and log_variance != ("logvar" in left):
        raise UserError(f"{source}: learn_logvar is {str(log_variance).lower()} in its config, logvar in it: {'logvar' in left}")
    tables.compare(discrete(model), left, source)
    if not model.scale_by_std:
        result.tensors["scale"] = left.pop("scale_factor", torch.as_tensor(model.scale)).float()
    if "logvar" in left:
        result.tensors["objective.log_variance"] = left.pop("logvar")
    _take_copies(model, names, left, result, source)
    for key in list(left):
        if key in (*tables.NAMES, *IGNORED):
            left.pop(key)
        elif key.startswith((LOSS, "first_stage_model.loss.", "cond_stage_model.loss.")):
            result.dropped.append(key)
            left.pop(key)
    _nothing_is_left(left, result, source)
    return result


def _nothing_is_left(left: dict[str, Tensor], result: Weights, source: str) -> None:
    """What is no weight is left out; anything else would be lost."""
    result.dropped += drop_bookkeeping(left, averages=True)
    if left:
        raise UserError(f"{source} does not fit its config: {len(left)} keys are left over, {', '.join(sorted(left)[:3])}")


def _is_zero(values: Tensor | None) -> bool:
    return values is not None and not values.any()


def _take(names: Mapping[str, str], module: nn.Module, left: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """Those of our entries that have names there, moved out of `left`; all of them have to be there, in their shapes."""
    own = module.state_dict()
    found = {theirs: _tensor(ours, left.pop(theirs), tuple(own[ours].shape)) for ours, theirs in names.items() if theirs in left}
    if wrong := mismatch(found, {theirs: own[ours] for ours, theirs in names.items()}):
        raise UserError(f"{source} does not fit its config: {wrong}")
    return {ours: found[theirs] for ours, theirs in names.items()}


def _take_ema(names: Mapping[str, str], model: LatentDiffusion, left: dict[str, Tensor], result: Weights, source: str) -> None:
    """The averages of the network go under the plain names, what they average below `raw.`."""
    if not any(key.startswith(EMA) for key in left):
        return
    averaged = {ours: ema_name(theirs) for ours, theirs in names.items() if ours.startswith("network.")}
    for ours, value in _take(averaged, model, left, source).items():
        result.tensors[RAW + ours] = result.tensors[ours]
        result.tensors[ours] = value
    decay, updates = (left.pop(EMA + name, None) for name in ("decay", "num_updates"))
    # A float32 buffer of theirs; its shortest decimal that gives the same float32 is what was meant.
    result.ema = {
        "decay": float(f"{float(decay if decay is not None else 0.9999):.7g}"),
        "updates": int(updates if updates is not None else 0),
    }


def _take_copies(model: LatentDiffusion, names: Mapping[str, str], left: dict[str, Tensor], weights: Weights, source: str) -> None:
    """A first stage that is the conditioner too is stored twice, equal."""
    if not encodes_condition(model.conditioner):
        return
    for ours, theirs in names.items():
        copy = theirs.replace("first_stage_model.", "cond_stage_model.", 1)
        if copy != theirs and copy in left and not torch.equal(left.pop(copy), weights.tensors[ours]):
            raise UserError(f"{source}: {copy} differs from {theirs}, of which it should be a copy")


def to_state(model: LatentDiffusion, weights: Weights) -> dict[str, Tensor]:
    """The whole state dict in their form: what `from_state` takes apart, with all that it leaves out made again.

    Their format has one place for the conditioner, which they never average: where ours was, its average goes there, because
    that is what the network's average was trained to be used with.
    """
    names = model_names(model)
    trained, plain = weights.chosen(raw=True), weights.chosen()
    state = tables.buffers(discrete(model))
    state |= {theirs: _tensor(ours, (trained if ours.startswith("network.") else plain)[ours]) for ours, theirs in names.items()}
    if weights.ema:
        averaged = {ours: theirs for ours, theirs in names.items() if ours.startswith("network.")}
        state |= {ema_name(theirs): _tensor(ours, plain[ours]) for ours, theirs in averaged.items()}
        state[EMA + "decay"] = torch.tensor(float(weights.ema["decay"]))
        state[EMA + "num_updates"] = torch.tensor(int(weights.ema["updates"]), dtype=torch.int32)
    if encodes_condition(model.conditioner):
        first = [theirs for theirs in names.values() if theirs.startswith("first_stage_model.")]
        state |= {theirs.replace("first_stage_model.", "cond_stage_model.", 1): state[theirs] for theirs in first}
    if "objective.log_variance" in weights.tensors:
        state["logvar"] = weights.tensors["objective.log_variance"]
    return state


# Their loss of a stand-alone first stage: renamed by prefix, whatever its sizes.
LOSS_PREFIXES = {
    "loss.discriminator.main.": "loss.discriminator.layers.",
    "loss.perceptual_loss.": "loss.perceptual.net.",
    "loss.logvar": "loss.log_variance",
}


def first_stage_from_state(stage: FirstStage, state: Mapping[str, Tensor], source: str) -> Weights:
    """Take the state dict of a stand-alone first stage apart; its loss goes below `loss.`, as far as it has a place here.

    Raises:
        UserError: keys that are missing or left over, or a tensor of another shape.
    """
    left = dict(state)
    result = Weights(_take(names_of(stage), stage, left, source))
    for key in [key for key in left if key.startswith((LOSS, *ALIGNMENT))]:
        value = left.pop(key)
        prefix = next((theirs for theirs in LOSS_PREFIXES if key.startswith(theirs)), None)
        if prefix is None:
            result.dropped.append(key)
        else:
            result.tensors[LOSS_PREFIXES[prefix] + key.removeprefix(prefix)] = value
    _nothing_is_left(left, result, source)
    return result


def first_stage_to_state(stage: FirstStage, weights: Weights) -> dict[str, Tensor]:
    """The inverse of `first_stage_from_state`."""
    state = {theirs: weights.tensors[ours] for ours, theirs in names_of(stage).items()}
    for name, value in weights.tensors.items():
        for theirs, ours in LOSS_PREFIXES.items():
            if name.startswith(ours):
                state[theirs + name.removeprefix(ours)] = value
    return state
