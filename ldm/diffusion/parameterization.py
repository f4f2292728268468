"""What the network's output means: noise, clean latent, or velocity. Both views of it are always given together."""

from typing import NamedTuple, Protocol

from torch import Tensor


class Prediction(NamedTuple):
    """Two views of one network output, tied by z_t = alpha_t z_0 + sigma_t eps."""

    eps: Tensor
    z_0: Tensor


class Parameterization(Protocol):
    """Regression target of the network, and how to read its output."""

    def target(self, z_0: Tensor, eps: Tensor, alpha_t: Tensor, sigma_t: Tensor) -> Tensor:
        """What the network should answer."""
        ...

    def predict(self, output: Tensor, z_t: Tensor, alpha_t: Tensor, sigma_t: Tensor) -> Prediction:
        """Both views of what it answered."""
        ...

    def to_z_0(self, alpha_t: Tensor, sigma_t: Tensor) -> Tensor:
        """Factor from the squared error of the output to the squared error of the clean latent."""
        ...


class Eps:
    """The network predicts the noise (Eq. 1-3)."""

    def target(self, z_0: Tensor, eps: Tensor, alpha_t: Tensor, sigma_t: Tensor) -> Tensor:
        return eps

    def predict(self, output: Tensor, z_t: Tensor, alpha_t: Tensor, sigma_t: Tensor) -> Prediction:
        return Prediction(eps=output, z_0=(z_t - sigma_t * output) / alpha_t)

    def to_z_0(self, alpha_t: Tensor, sigma_t: Tensor) -> Tensor:
        return (sigma_t / alpha_t) ** 2


class X0:
    """The network predicts the clean latent."""

    def target(self, z_0: Tensor, eps: Tensor, alpha_t: Tensor, sigma_t: Tensor) -> Tensor:
        return z_0

    def predict(self, output: Tensor, z_t: Tensor, alpha_t: Tensor, sigma_t: Tensor) -> Prediction:
        return Prediction(eps=(z_t - alpha_t * output) / sigma_t, z_0=output)

    def to_z_0(self, alpha_t: Tensor, sigma_t: Tensor) -> Tensor:
        return alpha_t.new_ones(())


class V:
    """The network predicts v = alpha_t eps - sigma_t z_0 (Salimans and Ho, 2022): well posed at every noise level."""

    def target(self, z_0: Tensor, eps: Tensor, alpha_t: Tensor, sigma_t: Tensor) -> Tensor:
        return alpha_t * eps - sigma_t * z_0

    def predict(self, output: Tensor, z_t: Tensor, alpha_t: Tensor, sigma_t: Tensor) -> Prediction:
        return Prediction(eps=sigma_t * z_t + alpha_t * output, z_0=alpha_t * z_t - sigma_t * output)

    def to_z_0(self, alpha_t: Tensor, sigma_t: Tensor) -> Tensor:
        return sigma_t**2


PARAMETERIZATIONS: dict[str, Parameterization] = {"eps": Eps(), "x0": X0(), "v": V()}
