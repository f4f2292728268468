"""What must not be saved: numbers that are not finite."""

from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor


def unfinite(value: Any, infinite: Collection[str] = (), path: str = "") -> Iterator[str]:
    """Dotted paths, in nested containers, of tensors and numbers from which training cannot go on.

    Infinity is allowed where it has a meaning: in the tensors named in `infinite` (attention masks, which hold -inf from the start),
    and in plain numbers (a limit that is none; the best value so far of a schedule that waits for a better one). NaN never is.
    """
    if isinstance(value, Tensor):
        if not _finite(value.detach(), path in infinite):
            yield path
    elif isinstance(value, float):
        if value != value:
            yield path
    elif isinstance(value, dict | list | tuple):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from unfinite(item, infinite, f"{path}.{key}" if path else str(key))


def _finite(value: Tensor, infinite: bool) -> bool:
    if not (value.is_floating_point() or value.is_complex()) or not value.numel():
        return True
    if value.is_complex():
        value = torch.view_as_real(value)
    if value.element_size() == 1:  # torch does not compare numbers of 8 bits
        value = value.float()
    ends = torch.stack(value.aminmax())  # one pass without copies; NaN comes through
    return not bool((ends.isnan() if infinite else ~ends.isfinite()).any())
