"""The same model at a share of every width: heads, levels and resolutions stay, parameters fall with the square for all alike.

(`ldm.check.shrink` makes everything as narrow as it goes, which would not keep models of a comparison equally large.)
"""

import copy
from typing import Any

from ldm.checkpoint.source import nodes_of
from ldm.errors import UserError

WIDTHS = {
    "UNet": ("width", "head_channels"),
    "NoisyClassifier": ("width", "head_channels"),
    "KLAutoencoder": ("width",),
    "VQAutoencoder": ("width",),
}


def narrowed(node: Any, share: float, pixels: float = 1.0) -> Any:
    """A copy of a model's node with the widths of networks and autoencoders multiplied by `share`.

    A classifier is built for one size of latents; `pixels` is the share of it that it will see.

    Raises:
        UserError: a width that would not be an even integer.
    """
    node = copy.deepcopy(node)
    for one in nodes_of(node):
        name = str(one.get("target", "")).rpartition(".")[2]
        if name == "NoisyClassifier":
            one["params"]["size"] = int(one["params"]["size"] * pixels)
        for key in WIDTHS.get(name, ()):
            if (width := one["params"].get(key)) is None:
                continue
            if (width * share) % 2:
                raise UserError(f"--share {share:g}: {one['target']}.{key} is {width}, and {width * share:g} is not an even number")
            one["params"][key] = int(width * share)
    return node
