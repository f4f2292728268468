"""Exponential moving average of the trained parameters (without a frozen first stage)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ldm.ranges import share


class EMA:
    """Exponential moving average of some parameters, in float32.

    After n updates the decay is min(decay, (1 + n) / (10 + n)), so that early averages are not dominated by the random initialisation.

    Args:
        parameters: by name.
        decay: final decay.
        warmup: false uses the final decay from the first update on.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float, warmup: bool = True) -> None:
        share(ema_decay=decay)
        if decay == 1.0:
            raise ValueError("ema_decay must be below 1, got 1: the average would never move")
        self.decay, self.warmup, self.updates = decay, warmup, 0
        self.parameters = dict(parameters)
        self.restart()

    @torch.no_grad()
    def restart(self) -> None:
        """Reset the averages to the current parameters, on their current device."""
        self.shadow = {name: p.detach().clone().float() for name, p in self.parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Update the averages; called once per training step."""
        self.updates += 1
        torch._foreach_lerp_(list(self.shadow.values()), [p.float() for p in self.parameters.values()], 1.0 - self.current())

    def current(self) -> float:
        """The decay of the latest update."""
        return min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Context in which the parameters are replaced by their averages."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, p in self.parameters.items():
            current = p.detach().clone()
            p.copy_(self.shadow[name])
            self.shadow[name].copy_(current)

    def state_dict(self) -> dict[str, Tensor | int]:
        return {"updates": self.updates, **{f"ema.{name}": value for name, value in self.shadow.items()}}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor | int]) -> None:
        self.updates = int(state["updates"])
        for name, value in self.shadow.items():
            value.copy_(state[f"ema.{name}"])  # type: ignore[arg-type]
