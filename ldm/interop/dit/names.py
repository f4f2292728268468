"""Names of DiT's parts here and in facebookresearch/DiT, which are those of SiT and LightningDiT too."""

import torch

from ldm.conditioning import ClassVector
from ldm.diffusion.parameterization import Velocity
from ldm.diffusion.process import ContinuousProcess
from ldm.errors import UserError
from ldm.interop.names import Entry, Table, renamed
from ldm.model import LatentDiffusion
from ldm.networks import DiT

TABLE = "y_embedder.embedding_table.weight"
POSITIONS = "pos_embed"
ROTARY = ("feat_rope.freqs_cos", "feat_rope.freqs_sin")
FINAL = "final_layer.linear"
RULES = (
    ("patches", "x_embedder.proj"),
    ("time", "t_embedder.mlp"),
    ("positions", POSITIONS),
    (r"blocks\.(\d+)\.attention\.norm_([qk])", r"blocks.\1.attn.\2_norm"),
    (r"blocks\.(\d+)\.attention\.qkv", r"blocks.\1.attn.qkv"),
    (r"blocks\.(\d+)\.attention\.out", r"blocks.\1.attn.proj"),
    (r"blocks\.(\d+)\.mlp\.0", r"blocks.\1.mlp.fc1"),
    (r"blocks\.(\d+)\.mlp\.2", r"blocks.\1.mlp.fc2"),
    (r"blocks\.(\d+)\.mlp\.inner", r"blocks.\1.mlp.w12"),
    (r"blocks\.(\d+)\.mlp\.out", r"blocks.\1.mlp.w3"),
    (r"blocks\.(\d+)\.modulation", r"blocks.\1.adaLN_modulation.1"),
    (r"blocks\.(\d+)\.norm([12])", r"blocks.\1.norm\2"),
    (r"final\.norm", "final_layer.norm_final"),
    (r"final\.linear", FINAL),
    (r"final\.modulation", "final_layer.adaLN_modulation.1"),
)


def table_of(model: LatentDiffusion) -> Table:
    """Names of a model's tensors but its first stage's.

    Raises:
        UserError: a model, or a part of one, that theirs do not have.
    """
    if not isinstance(model.network, DiT):
        raise UserError(f"the network is a {type(model.network).__name__}; DiT's checkpoints hold a DiT")
    if not isinstance(model.conditioner, ClassVector):
        raise UserError(f"the condition is a {type(model.conditioner).__name__}; DiT's checkpoints have a table of classes (ClassVector)")
    negated = _reversed_velocity(model)
    table = {f"network.{name}": _entry(name, negated) for name in model.network.state_dict()}
    return table | {"conditioner.embedding.weight": Entry((TABLE,))}


def _entry(name: str, negated: bool) -> Entry:
    if name == "rotary":
        return Entry(ROTARY, lambda value: value.clone().unbind(), lambda pieces: torch.stack(tuple(pieces)))
    try:
        theirs = renamed(name, {}, RULES)
    except ValueError as error:
        raise UserError(f"network.{name} has no counterpart in DiT's checkpoints, whose only condition is a class") from error
    if theirs == POSITIONS:
        return Entry((theirs,), lambda value: (value[None],), lambda pieces: pieces[0][0])
    if negated and theirs.startswith(FINAL):
        return Entry((theirs,), lambda value: (-value,), lambda pieces: -pieces[0])
    return Entry((theirs,))


def _reversed_velocity(model: LatentDiffusion) -> bool:
    """Whether the network's output has the other sign in their files; a `UserError` for a process that theirs do not have."""
    process = model.process
    if not isinstance(process, ContinuousProcess):
        return False
    if not process.time_reversed or process.time_scale != 1.0:
        raise UserError("the times that the network gets are not SiT's, which run from noise to data (time_reversed: true, time_scale: 1)")
    return isinstance(model.parameterization, Velocity)
