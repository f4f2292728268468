"""The interface of a denoising network."""

from typing import Any

from torch import Tensor, nn

NARROW = 32  # width of networks and of context tokens in the quick check of a config


class Network(nn.Module):
    """network(z, t, context, vector) -> output of the same size as z. To add one, derive from this class and set its attributes.

    Attributes:
        in_channels: channels of z_t, plus those of any concatenated condition.
        out_channels: channels of the output, those of the latent.
        context_channels: width of the context tokens; None if it takes no context.
        vector_channels: width of the vector condition; None if it takes none.
        multiple: height and width of z must be multiples of this.
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
            t: `(B,)`, see `Process.network_time`.
            context: `(B, N, context_channels)` tokens.
            vector: `(B, vector_channels)`.

        Returns:
            `(B, out_channels, h, w)`.
        """
        raise NotImplementedError

    def check_size(self, height: int, width: int) -> None:
        """Check the size of latents.

        Raises:
            ValueError: the network does not support it.
        """
        if height % self.multiple or width % self.multiple:
            raise ValueError(f"latents are {height}x{width}, but the network needs multiples of {self.multiple}")

    def begin_from(self, name: str, own: Tensor, value: Tensor) -> str:
        """Copy what has the same meaning from a weight of another shape, where another such network is to be fine-tuned as this one.

        Args:
            name: of the entry in `state_dict`.
            own: this network's, changed in place.
            value: the other's.

        Returns:
            What was copied, for people; "" if nothing.
        """
        return ""

    @staticmethod
    def narrow(params: dict[str, Any]) -> None:
        """Change constructor arguments, in place, to those of a small network of the same kind, with which `--check` runs one step."""

    def check_input(self, z: Tensor, context: Tensor | None, vector: Tensor | None) -> None:
        """Validate the input.

        Raises:
            ValueError: wrong channels or size, or a condition that the network was not built for.
        """
        name = type(self).__name__
        if z.shape[1] != self.in_channels:
            raise ValueError(f"{name} takes {self.in_channels} channels, got {z.shape[1]} (input {tuple(z.shape)})")
        self.check_size(z.shape[2], z.shape[3])
        if (context is None) != (self.context_channels is None):
            raise ValueError(f"{name} was built with context_channels={self.context_channels}, context given: {context is not None}")
        if (vector is None) != (self.vector_channels is None):
            raise ValueError(f"{name} was built with vector_channels={self.vector_channels}, vector given: {vector is not None}")


def common_channels(own: Tensor, value: Tensor) -> str:
    """Copy a first convolution's weights of the input channels that both have; zeros for the others, which so change nothing at first."""
    common = min(own.shape[1], value.shape[1])
    if own[:, :common].shape != value[:, :common].shape:
        return ""
    own.zero_()[:, :common].copy_(value[:, :common])
    return f"{common} of {own.shape[1]} input channels, the others zero" if own.shape[1] > common else f"{common} input channels"


def common_classes(own: Tensor, value: Tensor) -> str:
    """Copy a linear map's weights of the classes, one a column, that both have."""
    common = min(own.shape[1], value.shape[1])
    if len(own) != len(value):
        return ""
    own[:, :common].copy_(value[:, :common])
    return f"{common} of {own.shape[1]} classes"
