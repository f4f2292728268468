"""What the network predicts: noise, clean latent, v, velocity, or EDM's F; converted to both noise and clean latent."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from ldm.diffusion.process import Level, Process


class Prediction(NamedTuple):
    """Predicted noise and clean latent, related by z_t = alpha_t z_0 + sigma_t eps."""

    eps: Tensor
    z_0: Tensor


class Parameterization(ABC):
    """Regression target of the network, and how to read its output.

    Attributes:
        needs: entries of `Level` that it uses and that not every process defines.
        divides_by_alpha: whether the clean latent is undefined where alpha is 0.
    """

    needs: tuple[str, ...] = ()
    divides_by_alpha = False

    @abstractmethod
    def target(self, z_0: Tensor, eps: Tensor, at: Level) -> Tensor:
        """Regression target for the network."""

    @abstractmethod
    def predict(self, output: Tensor, z_t: Tensor, at: Level) -> Prediction:
        """Predicted noise and clean latent for a network output."""

    @abstractmethod
    def to_z_0(self, at: Level) -> Tensor:
        """Factor from the squared error of the output to the squared error of the clean latent."""

    def objection(self, process: Process) -> str:
        """Why it does not work with a process; "" if it does."""
        level = process.at(process.first, torch.zeros(1, 1))
        if lacking := [entry for entry in self.needs if getattr(level, entry) is None]:
            return f"the process has no {' and '.join(lacking)}"
        return "the process begins with pure noise" if self.divides_by_alpha and process.pure_noise else ""

    def require(self, process: Process) -> None:
        """Check that it works with a process.

        Raises:
            ValueError: it does not; the message says why, and which parameterizations do.
        """
        if why := self.objection(process):
            others = ", ".join(name for name, p in PARAMETERIZATIONS.items() if not p.objection(process))
            name, kind = type(self).__name__.lower(), type(process).__name__
            raise ValueError(f"parameterization {name} cannot work with {kind}: {why}; use one of {others}")


class Eps(Parameterization):
    """The network predicts the noise (Eq. 1-3)."""

    divides_by_alpha = True

    def target(self, z_0: Tensor, eps: Tensor, at: Level) -> Tensor:
        return eps

    def predict(self, output: Tensor, z_t: Tensor, at: Level) -> Prediction:
        return Prediction(eps=output, z_0=(z_t - at.sigma * output) / at.alpha)

    def to_z_0(self, at: Level) -> Tensor:
        return (at.sigma / at.alpha) ** 2


class X0(Parameterization):
    """The network predicts the clean latent."""

    def target(self, z_0: Tensor, eps: Tensor, at: Level) -> Tensor:
        return z_0

    def predict(self, output: Tensor, z_t: Tensor, at: Level) -> Prediction:
        return Prediction(eps=(z_t - at.alpha * output) / at.sigma, z_0=output)

    def to_z_0(self, at: Level) -> Tensor:
        return torch.ones_like(at.alpha)


class V(Parameterization):
    """The network predicts v = alpha_t eps - sigma_t z_0 (Salimans and Ho, 2022), well posed at every noise level.

    Defined for processes with alpha^2 + sigma^2 = 1.
    """

    def target(self, z_0: Tensor, eps: Tensor, at: Level) -> Tensor:
        return at.alpha * eps - at.sigma * z_0

    def predict(self, output: Tensor, z_t: Tensor, at: Level) -> Prediction:
        return Prediction(eps=at.sigma * z_t + at.alpha * output, z_0=at.alpha * z_t - at.sigma * output)

    def to_z_0(self, at: Level) -> Tensor:
        return at.sigma**2

    def objection(self, process: Process) -> str:
        levels = [process.at(t, torch.zeros(1, 1)) for t in process.spacings()["uniform"](2)]
        kept = all(abs(float(at.alpha**2 + at.sigma**2) - 1.0) < 1e-3 for at in levels)
        return "" if kept else "alpha^2 + sigma^2 is not 1"


class Velocity(Parameterization):
    """The network predicts dz_t / dt = alpha' z_0 + sigma' eps, the velocity of a flow (Lipman et al., 2023)."""

    needs = ("d_alpha", "d_sigma")

    def target(self, z_0: Tensor, eps: Tensor, at: Level) -> Tensor:
        return at.d_alpha * z_0 + at.d_sigma * eps  # type: ignore[operator]

    def predict(self, output: Tensor, z_t: Tensor, at: Level) -> Prediction:
        assert at.d_alpha is not None and at.d_sigma is not None
        det = self._det(at)  # of the two equations for z_0 and eps
        return Prediction(eps=(at.alpha * output - at.d_alpha * z_t) / det, z_0=(at.d_sigma * z_t - at.sigma * output) / det)

    def to_z_0(self, at: Level) -> Tensor:
        return (at.sigma / self._det(at)) ** 2

    def _det(self, at: Level) -> Tensor:
        return at.alpha * at.d_sigma - at.sigma * at.d_alpha  # type: ignore[operator]


class Edm(Parameterization):
    """EDM: the clean latent is c_skip z_t + c_out F (Karras et al., 2022, Eq. 7)."""

    needs = ("c_skip", "c_out")

    def target(self, z_0: Tensor, eps: Tensor, at: Level) -> Tensor:
        return (z_0 - at.c_skip * (at.alpha * z_0 + at.sigma * eps)) / at.c_out  # type: ignore[operator]

    def predict(self, output: Tensor, z_t: Tensor, at: Level) -> Prediction:
        z_0 = at.c_skip * z_t + at.c_out * output  # type: ignore[operator]
        return Prediction(eps=(z_t - at.alpha * z_0) / at.sigma, z_0=z_0)

    def to_z_0(self, at: Level) -> Tensor:
        return at.c_out**2  # type: ignore[operator]


PARAMETERIZATIONS: dict[str, Parameterization] = {"eps": Eps(), "x0": X0(), "v": V(), "velocity": Velocity(), "edm": Edm()}
