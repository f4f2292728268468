"""Modules without values: their structure, in no time and no memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

RANDOM = ("normal_", "uniform_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_")


@contextmanager
def on_meta() -> Iterator[None]:
    """Build modules on the meta device, without drawing their initial values.

    torch would draw them there by Python code, for which it imports its compiler: longer than most programs take for the rest.
    """
    with torch.device("meta"), _Undrawn():
        yield


class _Undrawn(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if getattr(func, "__name__", "") in RANDOM:
            tensor = args[0] if args else named["tensor"]
            if tensor.is_meta:  # others were put elsewhere on purpose
                return tensor
        return func(*args, **named)
