"""CompVis state dicts <-> our weights, by renaming alone, so that no bit changes.

Our side is a flat dict of names: `network.*`, `conditioner.*`, `first_stage.*`, `scale` for a latent diffusion model, the
autoencoder's own names for a first stage. Where a checkpoint has both an average and the weights it averages, the average
has the plain names, because sampling uses it, and the others are below `raw.`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ldm.conditioning import ClassEmbedding, ConcatImage, Conditioner, Joint, LabelMap, LayoutTransformer, PretrainedText, TextTransformer
from ldm.diffusion.process import DiscreteProcess
from ldm.errors import UserError
from ldm.first_stage.base import FirstStage
from ldm.interop.compvis import tables
from ldm.interop.compvis.names import table_of
from ldm.interop.leftovers import drop_bookkeeping
from ldm.interop.names import Entry, Table, below, store, take
from ldm.model import LatentDiffusion

RAW = "raw."
LOSS = "loss."
UNET = "model.diffusion_model."
FIRST_STAGE = "first_stage_model."
CONDITION = "cond_stage_model."
EMA = "model_ema."
ALIGNMENT = ("foundation_model.", "linear_proj.")  # of VA-VAE: a vision model, and the map to it, that its training compares latents with
IGNORED = ("lvlb_weights",)  # a buffer of theirs that some versions store


@dataclass
class Weights:
    """Our weights out of their checkpoint.

    Attributes:
        tensors: by our names.
        ema: decay and number of updates of the average, where there is one.
        dropped: keys that are not used here.
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


def model_table(model: LatentDiffusion) -> Table:
    """Names of a model's tensors; of the network, those of its weights as trained."""
    parts = [("network.", UNET, table_of(model.network)), ("conditioner.", CONDITION, _conditioner_table(model.conditioner))]
    if any(True for _ in model.first_stage.parameters()):
        parts.append(("first_stage.", FIRST_STAGE, table_of(model.first_stage)))
    table = {name: entry for ours, theirs, part in parts for name, entry in below(part, ours, theirs).items()}
    return table | ({"scale": Entry(("scale_factor",))} if model.scale_by_std else {})


def _conditioner_table(conditioner: Conditioner) -> Table:
    if isinstance(conditioner, TextTransformer | LayoutTransformer):
        return below(table_of(conditioner.transformer), "transformer.", "transformer.")
    names = {}
    if isinstance(conditioner, ClassEmbedding):
        names = {"embedding.weight": "embedding.weight"}
    elif isinstance(conditioner, LabelMap):
        names = {f"rescaler.{leaf}": leaf.replace("conv.", "channel_mapper.") for leaf in conditioner.rescaler.state_dict()}
    elif isinstance(conditioner, PretrainedText):
        leaves = conditioner.encoder.state_dict() if conditioner.stored else ()
        names = {f"encoder.{leaf}": f"transformer.text_model.{leaf.removeprefix('text_model.')}" for leaf in leaves}
    elif next(conditioner.parameters(), None) is not None:
        raise UserError(f"{type(conditioner).__name__} has no counterpart in CompVis checkpoints")
    return {ours: Entry((theirs,)) for ours, theirs in names.items()}


def encodes_condition(conditioner: Conditioner) -> bool:
    """Whether the conditioner is the first stage, which their checkpoints then store twice."""
    parts = list(conditioner.parts) if isinstance(conditioner, Joint) else [conditioner]
    return any(isinstance(part, ConcatImage) and part.encode_first for part in parts)


def _averages(table: Table) -> Table:
    """Names of the network's averages: theirs without dots."""
    network = {ours: entry for ours, entry in table.items() if ours.startswith("network.")}
    return {ours: replace(entry, names=(EMA + entry.names[0].removeprefix("model.").replace(".", ""),)) for ours, entry in network.items()}


def discrete(model: LatentDiffusion) -> DiscreteProcess:
    """The model's process.

    Raises:
        UserError: one with other times.
    """
    if not isinstance(model.process, DiscreteProcess):
        raise UserError(f"CompVis checkpoints support discrete timesteps only, not {type(model.process).__name__}")
    return model.process


def from_state(
    model: LatentDiffusion, state: Mapping[str, Tensor], source: str, ema: bool | None = None, log_variance: bool | None = None
) -> Weights:
    """Our weights from a state dict.

    Args:
        model: the architecture (on any device, the meta device too).
        state: theirs.
        source: for messages.
        ema, log_variance: whether its config says that it contains averages, and learned log variances; None means unknown.

    Raises:
        UserError: keys that are missing, or left over and not among those that are known to have no place here; a tensor of
            another shape; schedule buffers of another schedule.
    """
    table, own, left, misfit = model_table(model), model.state_dict(), dict(state), f"{source} does not fit its config"
    result = Weights(take(table, own, left, misfit))
    if ema is False and any(key.startswith(EMA) for key in left):
        # their code does not read averages if the config has none
        result.dropped += [key for key in left if key.startswith(EMA)]
        left = {key: value for key, value in left.items() if not key.startswith(EMA)}
    if any(key.startswith(EMA) for key in left):
        averaged = take(_averages(table), own, left, misfit)
        result.tensors |= {RAW + ours: result.tensors[ours] for ours in averaged} | averaged
        result.ema = _ema_facts(left)
    elif ema:
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
    if encodes_condition(model.conditioner):
        _drop_copies(state, left, source)
    for key in list(left):
        if key in (*tables.NAMES, *IGNORED):
            left.pop(key)
        elif key.startswith((LOSS, "first_stage_model.loss.", "cond_stage_model.loss.")):
            result.dropped.append(key)
            left.pop(key)
    _nothing_is_left(left, result, source)
    return result


def _nothing_is_left(left: dict[str, Tensor], result: Weights, source: str) -> None:
    """Drop what is not a weight; anything else that is left is an error."""
    result.dropped += drop_bookkeeping(left, averages=True)
    if left:
        raise UserError(f"{source} does not fit its config: {len(left)} keys are left over, {', '.join(sorted(left)[:3])}")


def _is_zero(values: Tensor | None) -> bool:
    return values is not None and not values.any()


def _ema_facts(left: dict[str, Tensor]) -> dict[str, float | int]:
    """Decay and number of updates; the decay is a float32 buffer of theirs, whose shortest decimal is what was meant."""
    decay, updates = (left.pop(EMA + name, default) for name, default in (("decay", 0.9999), ("num_updates", 0)))
    return {"decay": float(f"{float(decay):.7g}"), "updates": int(updates)}


def _drop_copies(state: Mapping[str, Tensor], left: dict[str, Tensor], source: str) -> None:
    """A first stage that is the conditioner too is stored twice, equal."""
    for copy in [key for key in left if key.startswith(CONDITION)]:
        theirs = copy.replace(CONDITION, FIRST_STAGE, 1)
        if theirs in state and theirs not in left and not torch.equal(left.pop(copy), state[theirs]):
            raise UserError(f"{source}: {copy} differs from {theirs}, of which it should be a copy")


def to_state(model: LatentDiffusion, weights: Weights) -> dict[str, Tensor]:
    """The state dict that `from_state` reads, including the tables and copies that it leaves out.

    Their format has one place for the conditioner, which they never average: if ours was, its average is written, because the
    network's average belongs to it.
    """
    table, plain = model_table(model), weights.chosen()
    averages = _averages(table)
    trained = {ours: value for ours, value in weights.chosen(raw=True).items() if ours in averages}
    state = tables.buffers(discrete(model)) | store(table, plain | trained)
    if weights.ema:
        state |= store(averages, plain)
        state[EMA + "decay"] = torch.tensor(float(weights.ema["decay"]))
        state[EMA + "num_updates"] = torch.tensor(int(weights.ema["updates"]), dtype=torch.int32)
    if encodes_condition(model.conditioner):
        state |= {key.replace(FIRST_STAGE, CONDITION, 1): value for key, value in state.items() if key.startswith(FIRST_STAGE)}
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
    """Our weights from the state dict of a first stage alone; its loss is below `loss.`, as far as ours has the same parts.

    Raises:
        UserError: keys that are missing or left over, or a tensor of another shape.
    """
    left = dict(state)
    result = Weights(take(table_of(stage), stage.state_dict(), left, f"{source} does not fit its config"))
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
    state = store(table_of(stage), weights.tensors)
    for name, value in weights.tensors.items():
        for theirs, ours in LOSS_PREFIXES.items():
            if name.startswith(ours):
                state[theirs + name.removeprefix(ours)] = value
    return state
