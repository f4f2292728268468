"""Post-hoc EMA (Karras et al., 2024, EDM2, Sec. 3): averages of any length, combined from snapshots by least squares.

A power-function EMA of exponent gamma weights the parameters at step tau <= t by (gamma + 1) tau^gamma / t^(gamma + 1). Its length
is given relative to the run: sigma_rel, the standard deviation of that profile divided by t.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ldm.ranges import finite


def exponent(length: float) -> float:
    """gamma for a relative length sigma_rel (Eq. 123 of EDM2, solved for gamma).

    Raises:
        ValueError: a length that no gamma >= 0 has (0.29 or more, or not above 0).
    """
    if not 0.0 < length < 12**-0.5:
        raise ValueError(f"the relative length of an average must be above 0 and below {12**-0.5:.3f}, got {length}")
    inverse = length**-2
    roots = np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse])
    return float(roots[np.isreal(roots)].real.max())


def profile_product(t: float, gamma: float, other_t: float, other_gamma: float) -> float:
    """Inner product of two profiles, the integral over tau of their weights (in logarithms, because exponents are large)."""
    total = gamma + other_gamma + 1.0
    logs = np.log(gamma + 1.0) + np.log(other_gamma + 1.0) - np.log(total) + total * np.log(min(t, other_t))
    return float(np.exp(logs - (gamma + 1.0) * np.log(t) - (other_gamma + 1.0) * np.log(other_t)))


def coefficients(snapshots: Sequence[tuple[int, float]], step: int, length: float) -> np.ndarray:
    """Weights of the linear combination of snapshots that approximates the average of a length at a step.

    Args:
        snapshots: (step, relative length) of each.
        step: last step of the average; there must be no snapshots of later steps.
        length: relative length of the requested average.

    Returns:
        One weight per snapshot; they sum to 1.
    """
    profiles = [(float(t), exponent(relative)) for t, relative in snapshots]
    products = np.array([[profile_product(*a, *b) for b in profiles] for a in profiles])
    wanted = np.array([profile_product(*a, float(step), exponent(length)) for a in profiles])
    # The profiles of neighbouring snapshots are nearly parallel: normalise them, and let the solver cut off small singular values.
    scale = np.sqrt(np.diag(products))
    solution = np.linalg.lstsq(products / np.outer(scale, scale), wanted / scale, rcond=1e-12)[0]
    solution = np.asarray(solution / scale)
    return solution / solution.sum()  # constant parameters are reproduced with any number of snapshots


class PowerEMA:
    """Power-function EMAs of some parameters, in float32, updated once per step.

    Args:
        parameters: by name.
        sigma_rels: relative length of each average; two (0.05 and 0.1) are enough for any length in their range and around it.
    """

    def __init__(self, parameters: Mapping[str, Tensor], sigma_rels: Sequence[float] = (0.05, 0.1)) -> None:
        if not sigma_rels or not all(map(finite, sigma_rels)) or len(set(sigma_rels)) != len(sigma_rels):
            raise ValueError(f"sigma_rels must be different numbers, at least one, got {list(sigma_rels)}")
        self.parameters, self.sigma_rels, self.updates = dict(parameters), tuple(float(length) for length in sigma_rels), 0
        self.exponents = [exponent(length) for length in self.sigma_rels]
        self.restart()

    @torch.no_grad()
    def restart(self) -> None:
        """Reset the averages to the current parameters, on their current device."""
        self.shadows = [{name: p.detach().clone().float() for name, p in self.parameters.items()} for _ in self.sigma_rels]

    @torch.no_grad()
    def update(self) -> None:
        """Update the averages."""
        self.updates += 1
        current = [p.float() for p in self.parameters.values()]
        for gamma, shadow in zip(self.exponents, self.shadows, strict=True):
            kept = (1.0 - 1.0 / self.updates) ** (gamma + 1.0)
            torch._foreach_lerp_(list(shadow.values()), current, 1.0 - kept)

    def state_dict(self) -> dict[str, Any]:
        """Plain containers."""
        named = {f"{i}.{name}": value for i, shadow in enumerate(self.shadows) for name, value in shadow.items()}
        return {"updates": self.updates, "lengths": list(self.sigma_rels), **named}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`.

        Raises:
            ValueError: averages of other sigma_rels, or of other parameters.
        """
        saved = state.get("lengths")
        if saved != list(self.sigma_rels):
            raise ValueError(f"posthoc_sigma_rels are {list(self.sigma_rels)}, but those of the checkpoint are {saved}")
        self.updates = int(state["updates"])
        for i, shadow in enumerate(self.shadows):
            for name, value in shadow.items():
                value.copy_(state[f"{i}.{name}"])
