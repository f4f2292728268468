"""What the network predicts: noise minus clean latent, whatever the process."""

from torch import Tensor

from ldm.diffusion import Parameterization, Prediction
from ldm.diffusion.process import Level


class Difference(Parameterization):
    def target(self, z_0: Tensor, eps: Tensor, at: Level) -> Tensor:
        return eps - z_0

    def predict(self, output: Tensor, z_t: Tensor, at: Level) -> Prediction:
        z_0 = (z_t - at.sigma * output) / (at.alpha + at.sigma)
        return Prediction(eps=z_0 + output, z_0=z_0)

    def to_z_0(self, at: Level) -> Tensor:
        return (at.sigma / (at.alpha + at.sigma)) ** 2
