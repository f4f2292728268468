"""Compare weights with those of a module, by name and shape."""

from collections.abc import Mapping

from torch import Tensor


def mismatch(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """The first names that are missing or unknown, else the first entry whose shape differs; "" if everything matches."""
    if found.keys() != expected.keys():
        missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
        return f"missing {missing[:3]}, unknown {extra[:3]}"
    for name, value in expected.items():
        if value.shape != found[name].shape:
            return f"{name} is {tuple(found[name].shape)}, expected {tuple(value.shape)}"
    return ""
