"""Compare weights with those of a module, by name and shape."""

from collections.abc import Mapping

from torch import Tensor


def mismatch(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """The first names that are missing or left over, else the first entry whose shape differs; "" if everything matches."""
    different = {"missing": expected.keys() - found.keys(), "left over": found.keys() - expected.keys()}
    if any(different.values()):
        return ", ".join(f"{what} {sorted(names)[:3]}" for what, names in different.items() if names)
    for name, value in expected.items():
        if value.shape != found[name].shape:
            return f"{name} is {tuple(found[name].shape)}, expected {tuple(value.shape)}"
    return ""
