"""The same model at a share of every width: heads, levels and resolutions stay, parameters fall with the square for all alike.

(`ldm.check.shrink` makes everything as narrow as it goes, which would not keep models of a comparison equally large.)
"""

import copy
from typing import Any

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
        UserError: a width that would not be a whole even number.
    """
    if isinstance(node, list):
        return [narrowed(item, share, pixels) for item in node]
    if not isinstance(node, dict):
        return copy.copy(node)
    changed = {key: narrowed(item, share, pixels) for key, item in node.items()}
    name = str(node.get("target", "")).rpartition(".")[2]
    if name == "NoisyClassifier":
        changed["params"]["size"] = int(changed["params"]["size"] * pixels)
    for key in WIDTHS.get(name, ()):
        width = changed["params"].get(key)
        if width is None:
            continue
        if (width * share) % 2:
            raise UserError(f"--share {share:g}: {node['target']}.{key} is {width}, and {width * share:g} is no even number")
        changed["params"][key] = int(width * share)
    return changed
