"""Find values that must not be saved because they are not finite."""

from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor


def unfinite(value: Any, infinite: Collection[str] = (), path: str = "") -> Iterator[str]:
    """Dotted paths, in nested containers, of tensors and numbers with which training cannot continue.

    Infinity is allowed where it has a meaning: in the tensors named in `infinite` (attention masks with -inf) and in plain numbers
    (no limit; the best value so far of a schedule that waits for a better one). NaN is never allowed.
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
    if value.element_size() == 1:  # torch does not support comparisons of 8-bit floats
        value = value.float()
    ends = torch.stack(value.aminmax())  # one pass without copies; NaN is propagated
    return not bool((ends.isnan() if infinite else ~ends.isfinite()).any())
