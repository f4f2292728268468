"""The patch discriminator of stage one (Sec. 3.1, App. G): is this patch from a real image?"""

from typing import Any

from torch import Tensor, nn

from ldm.ranges import integer


class PatchDiscriminator(nn.Module):
    """Image `(B, C, H, W)` -> one logit per overlapping patch, `(B, 1, h, w)`.

    Args:
        in_channels: of the image.
        width: channels of the first layer; doubled by each further layer, up to 8 * width.
        layers: number of stride-2 convolutions, which sets the patch size (3 layers: 70 pixels).
    """

    def __init__(self, in_channels: int = 3, width: int = 64, layers: int = 3) -> None:
        super().__init__()
        integer(in_channels=in_channels, width=width)
        integer(0, layers=layers)
        modules: list[nn.Module] = [nn.Conv2d(in_channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2, True)]
        channels = width
        for i in range(1, layers + 1):
            out = width * min(2**i, 8)
            stride = 2 if i < layers else 1
            modules += [nn.Conv2d(channels, out, 4, stride, padding=1, bias=False), nn.BatchNorm2d(out), nn.LeakyReLU(0.2, True)]
            channels = out
        modules.append(nn.Conv2d(channels, 1, 4, stride=1, padding=1))
        self.layers = nn.Sequential(*modules)
        self.apply(self._initialise)

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)

    @staticmethod
    def narrow(params: dict[str, Any]) -> None:
        """See `Network.narrow`."""
        params["width"] = 8

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
