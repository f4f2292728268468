"""What a latent diffusion model needs of a denoising network, of whatever kind."""

from typing import Any

from torch import Tensor, nn

NARROW = 32  # width of networks, and of the tokens that they attend to, in a quick check of a config


class Network(nn.Module):
    """network(z, t, context, vector) -> output of the size of z. To add one, derive from this class and set its attributes.

    Attributes:
        in_channels: channels of z_t, plus those of any concatenated condition.
        out_channels: channels of the output, those of the latent.
        context_channels: width of the tokens it attends to; None if it takes none.
        vector_channels: width of the vector it takes; None if it takes none.
        multiple: height and width of z must be multiples of it.
    """

    in_channels: int
    out_channels: int
    context_channels: int | None = None
    vector_channels: int | None = None
    multiple: int = 1

    def forward(self, z: Tensor, t: Tensor, context: Tensor | None = None, vector: Tensor | None = None) -> Tensor:
        """Predict from a noisy latent.

        Args:
            z: `(B, in_channels, h, w)`.
            t: `(B,)` times, as the process tells them.
            context: `(B, N, context_channels)` tokens.
            vector: `(B, vector_channels)`.

        Returns:
            `(B, out_channels, h, w)`.
        """
        raise NotImplementedError

    def check_size(self, height: int, width: int) -> None:
        """Whether it takes latents of this size.

        Raises:
            ValueError: it does not.
        """
        if height % self.multiple or width % self.multiple:
            raise ValueError(f"latents are {height}x{width}, no multiple of the {self.multiple} that the network needs")

    @staticmethod
    def narrow(params: dict[str, Any]) -> None:
        """Change constructor arguments, in place, to those of a small network of the same kind: `--check` takes a step with it."""

    def check_input(self, z: Tensor, context: Tensor | None, vector: Tensor | None) -> None:
        """Whether it was built for this input.

        Raises:
            ValueError: other channels or size, or a condition that it was not built for.
        """
        name = type(self).__name__
        if z.shape[1] != self.in_channels:
            raise ValueError(f"{name} takes {self.in_channels} channels, got {z.shape[1]} (input {tuple(z.shape)})")
        self.check_size(z.shape[2], z.shape[3])
        if (context is None) != (self.context_channels is None):
            raise ValueError(f"{name} was built with context_channels={self.context_channels}, context given: {context is not None}")
        if (vector is None) != (self.vector_channels is None):
            raise ValueError(f"{name} was built with vector_channels={self.vector_channels}, vector given: {vector is not None}")
