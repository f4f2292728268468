"""Names of DiT's parts here and in facebookresearch/DiT; SiT and LightningDiT have the same ones."""

import re

from ldm.conditioning import ClassVector
from ldm.errors import UserError
from ldm.model import LatentDiffusion
from ldm.networks import DiT

TABLE = "y_embedder.embedding_table.weight"
POSITIONS = "pos_embed"
ROTARY = ("feat_rope.freqs_cos", "feat_rope.freqs_sin")
FINAL = "final_layer.linear."
RULES = (  # ours, theirs
    (r"patches\.", "x_embedder.proj."),
    (r"time\.", "t_embedder.mlp."),
    (r"positions$", POSITIONS),
    (r"blocks\.(\d+)\.attention\.norm_([qk])\.", r"blocks.\1.attn.\2_norm."),
    (r"blocks\.(\d+)\.attention\.qkv\.", r"blocks.\1.attn.qkv."),
    (r"blocks\.(\d+)\.attention\.out\.", r"blocks.\1.attn.proj."),
    (r"blocks\.(\d+)\.mlp\.0\.", r"blocks.\1.mlp.fc1."),
    (r"blocks\.(\d+)\.mlp\.2\.", r"blocks.\1.mlp.fc2."),
    (r"blocks\.(\d+)\.mlp\.inner\.", r"blocks.\1.mlp.w12."),
    (r"blocks\.(\d+)\.mlp\.out\.", r"blocks.\1.mlp.w3."),
    (r"blocks\.(\d+)\.modulation\.", r"blocks.\1.adaLN_modulation.1."),
    (r"blocks\.(\d+)\.norm([12])\.", r"blocks.\1.norm\2."),
    (r"final\.norm\.", "final_layer.norm_final."),
    (r"final\.linear\.", FINAL),
    (r"final\.modulation\.", "final_layer.adaLN_modulation.1."),
)


def names_of(network: DiT) -> dict[str, str]:
    """Our names of a network -> theirs, but for the rotary table, which is two of theirs.

    Raises:
        UserError: a part that theirs do not have.
    """
    return {name: theirs(name) for name in network.state_dict() if name != "rotary"}


def theirs(name: str) -> str:
    """One name of ours in their words; raises as `names_of`."""
    for ours, replacement in RULES:
        if re.match(ours, name):
            return re.sub(f"^{ours}", replacement, name)
    raise UserError(f"network.{name} has no counterpart in DiT's checkpoints, whose only condition is a class")


def model_names(model: LatentDiffusion) -> dict[str, str]:
    """Our names of a whole model, without its first stage -> theirs; raises as `names_of`, also for another kind of model."""
    if not isinstance(model.network, DiT):
        raise UserError(f"the network is a {type(model.network).__name__}; DiT's checkpoints hold a DiT")
    if not isinstance(model.conditioner, ClassVector):
        raise UserError(f"the condition is a {type(model.conditioner).__name__}; DiT's checkpoints have a table of classes (ClassVector)")
    return {f"network.{ours}": name for ours, name in names_of(model.network).items()} | {"conditioner.embedding.weight": TABLE}
