"""LPIPS (Zhang et al., 2018), the perceptual part of the stage-one loss, from the `lpips` package."""

import os
import warnings
from pathlib import Path

import torch
from torch import Tensor

from ldm.errors import MissingFile, UserError
from ldm.nn.files import NeedsFiles
from ldm.precision import no_autocast
from ldm.system.weights import read_pickle

VGG16 = "vgg16-397923af.pth"  # torchvision's name for VGG16_Weights.IMAGENET1K_V1


class LPIPS(NeedsFiles):
    """Perceptual distance between images in [-1, 1]: two `(B, 3, H, W)` -> `(B,)`, float32, outside autocast.

    The learned heads come with the `lpips` package; the VGG16 features are ImageNet weights from a file or a download.
    They are loaded at the first use or by `load()`, so that a model can be built, counted and checked without them.

    Args:
        vgg16: file with torchvision's VGG16 weights; if None, torchvision's cache, then a download.
    """

    def __init__(self, vgg16: str | None = None) -> None:
        super().__init__()
        import lpips  # slow to import, and only stage one needs it

        self.vgg16 = vgg16
        self.loaded = False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # lpips uses a deprecated argument of torchvision
            self.net = lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> "LPIPS":
        """Always in eval mode: the heads' dropout must not be active (in the original it is, during training)."""
        return super().train(False)

    def file(self) -> Path:
        """Path at which the VGG16 weights are expected."""
        return Path(self.vgg16) if self.vgg16 else Path(torch.hub.get_dir()) / "checkpoints" / VGG16

    def missing(self) -> list[MissingFile]:
        if self.file().is_file():
            return []
        hint = f"torchvision's VGG16 weights ({VGG16}) for LPIPS: put them at {self.file()} or set vgg16: PATH"
        return [MissingFile(f"{hint}; with internet access, torchvision downloads them itself")]

    def load(self) -> None:
        """Read the VGG16 weights and the learned heads.

        Raises:
            MissingFile: no file, and the download failed.
            UserError: the file contains something else.
        """
        state = self._vgg16_state()
        # lpips splits torchvision's layer list into slices ("slice1.0.weight") and keeps the layer numbers.
        wanted = {name: state.get(f"features.{name.partition('.')[2]}") for name in self.net.net.state_dict()}
        if any(value is None for value in wanted.values()):
            raise UserError(f"{self.file()}: expected torchvision's VGG16 state dict with keys features.0.weight ...")
        self.net.net.load_state_dict(wanted)
        import lpips

        heads = os.path.join(os.path.dirname(lpips.__file__), "weights", f"v{self.net.version}", "vgg.pth")
        self.net.load_state_dict(torch.load(heads, map_location="cpu", weights_only=True), strict=False)
        self.loaded = True

    def _vgg16_state(self) -> dict[str, Tensor]:
        if self.file().is_file():
            return read_pickle(self.file(), "not a complete file of torchvision's VGG16 weights")  # type: ignore[no-any-return]
        if self.vgg16:
            raise self.missing()[0]
        from torchvision.models import VGG16_Weights

        try:
            return torch.hub.load_state_dict_from_url(VGG16_Weights.IMAGENET1K_V1.url, map_location="cpu", progress=False)
        except Exception as error:  # any network failure means the same to the user
            raise MissingFile(f"{self.missing()[0]} (the download failed: {error})") from error

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        if not self.loaded:
            self.load()
        with no_autocast(x.device):
            return self.net(x.float(), y.float()).flatten()  # type: ignore[no-any-return]
