"""Networks that turn images into features: each with its name, the hash of its weights, and its own resize.

An extractor takes 8-bit images of any size `(B, 3, H, W)`; its resize is part of the measure and of the record.
"""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16

from ldm.data.sources.scenes import Scenes
from ldm.errors import MissingFile, UserError
from ldm.evaluation.small_extractor import SmallExtractor, train_extractor
from ldm.evaluation.weightfiles import DINOV2, FOLDER, INCEPTION, OTHER, VGG16, WeightFile, folder_sha256, in_memory, read_state
from ldm.system.weights import fingerprint, read_weights, save_weights

TF1 = "bilinear as in TensorFlow 1 (corners not aligned, no antialiasing)"


class Extractor(nn.Module):
    """Images `(B, 3, H, W)` uint8 -> features by the name of their layer, each `(B, d)` float32.

    Attributes:
        name: of network and weights, in records.
        resize: of its input.
        sha256: of its weights.
        features: the layer for distances.
        logits: the layer for the Inception Score; None if it has no classes.
        frechet: name of a Frechet distance over its features; "FID" belongs to one network with one set of weights.
        software: libraries that its features depend on.
        genuine: False if the weights are not the published ones that its measures are named after.
    """

    name: str
    resize: str
    sha256: str
    features: str
    logits: str | None = None
    frechet: str
    software: tuple[str, ...] = ()
    genuine: bool = True

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        raise NotImplementedError

    def title(self, metric: str) -> str:
        """The name of another measure over these features: the extractor is named unless it is the usual one."""
        inside = re.search(r"\((.*)\)", self.frechet)
        return f"{metric} ({inside[1]})" if inside else metric


class TorchFidelity(Extractor):
    """A network of torch-fidelity with weights that are read without executing anything.

    Args:
        file: .pth or .safetensors.

    Raises:
        UserError: the file holds something else.
    """

    software = ("torch-fidelity",)
    kind: Callable[..., nn.Module]
    network: str  # torch-fidelity's name
    published: WeightFile

    def __init__(self, file: Path) -> None:
        super().__init__()
        state, self.sha256 = read_state(file, self.published.what)
        self.genuine = self.published.genuine(self.sha256)
        self.layers = [self.features] if self.logits is None else [self.features, self.logits]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.net = type(self).kind(self.network, self.layers, feature_extractor_weights_path=in_memory(state))
        except RuntimeError as error:
            raise UserError(f"{file}: not the weights of {self.network}: {str(error).splitlines()[-1].strip()[:150]}") from error

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.layers, self.net(x), strict=True))


class Inception(TorchFidelity):
    """Inception V3, the network of FID, IS and KID, and of ADM's precision and recall."""

    kind, network, published = FeatureExtractorInceptionV3, "inception-v3-compat", INCEPTION
    features, logits = "2048", "logits_unbiased"
    name, resize = "Inception V3 (torch-fidelity)", f"{TF1} to 299x299"

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self.frechet = "FID" if self.genuine else f"FD (Inception {OTHER})"


class VGG(TorchFidelity):
    """torchvision's VGG16, the network of torch-fidelity's precision and recall; here also of nearest training images (figures 32-34)."""

    kind, network, published = FeatureExtractorVGG16, "vgg16", VGG16
    features = "fc2_relu"
    name, resize = "VGG16 (torch-fidelity)", f"{TF1} to 224x224"

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self.frechet = "FD (VGG16)" if self.genuine else f"FD (VGG16 {OTHER})"


class DinoV2(Extractor):
    """DINOv2 through transformers, for FD-DINOv2 (Stein et al., 2023): the class token after the last norm.

    The resize is that of EDM2's evaluation (antialiased bicubic); torch-fidelity's differs, and so do its values.

    Args:
        folder: a local model folder with config.json and model.safetensors.

    Raises:
        UserError: another model.
    """

    features, software = "class token", ("transformers",)
    resize = "bicubic, antialiased, to 224x224"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.sha256 = folder_sha256(folder)
        from transformers import Dinov2Model

        self.net = transformer(Dinov2Model, folder, "DINOv2")
        config = self.net.config
        large = (config.hidden_size, config.num_hidden_layers, config.patch_size) == (1024, 24, 14)
        self.name = f"DINOv2, width {config.hidden_size}, {config.num_hidden_layers} layers, patch {config.patch_size}"
        self.frechet = "FD-DINOv2" if large else f"FD-DINOv2 (not {DINOV2.what.removeprefix('the folder of DINOv2 ')})"

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = F.interpolate(x.float(), size=(224, 224), mode="bicubic", antialias=True) / 255
        mean, std = (torch.tensor(v, device=x.device)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        return {self.features: self.net(pixel_values=(x - mean) / std).pooler_output.float()}


def transformer(kind: Any, folder: Path, what: str) -> Any:
    """A frozen model of transformers from a local folder, from safetensors only: other formats can contain code.

    Raises:
        UserError: it cannot be read.
    """
    try:
        net = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except Exception as error:  # transformers raises many kinds for a foreign folder
        raise UserError(f"{folder}: not a folder of {what} that can be read ({(str(error).splitlines() or ['?'])[0][:150]})") from error
    return net.requires_grad_(False).eval()


class Demo(Extractor):
    """A small network trained here on procedural scenes, for machines without other weights. Distances over it are not FID.

    Args:
        net: for images of 3 channels.
        ability: its accuracy in training, in words.
    """

    features = "coarsest map"
    resize = "none"
    smallest = 4  # side of the images: it is halved twice

    def __init__(self, net: SmallExtractor, ability: str = "") -> None:
        super().__init__()
        self.net, self.ability = net.requires_grad_(False).eval(), ability
        self.sha256 = fingerprint(net.state_dict())
        self.name, self.frechet = "small extractor trained on the demo scenes" + (f" ({ability})" if ability else ""), "FD (demo features)"

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        if min(x.shape[2:]) < self.smallest:
            raise UserError(f"the small extractor takes images of {self.smallest} pixels and more, these are {x.shape[3]}x{x.shape[2]}")
        return {self.features: self.net.features(x.float() / 127.5 - 1)}


CLASSES, SIZE, SIDE = 64, 32, 12  # number of scenes, their side, the side of patches


def train_demo(steps: int = 400) -> Demo:
    """Train to classify which of 64 scenes a patch is from; always the same scenes and seed.

    Training patches are from columns 0 to 19, held-out ones from 20 to 31, so they share no pixel.
    """
    scenes = Scenes(CLASSES, SIZE, "train", seed=7, give=[])
    images = torch.stack([scenes[k]["image"] for k in range(CLASSES)])
    rows = range(0, SIZE - SIDE + 1, 4)

    def patches(columns: range) -> tuple[Tensor, Tensor]:
        cut = [images[:, :, y : y + SIDE, x : x + SIDE] for y in rows for x in columns]
        return torch.cat(cut), torch.arange(CLASSES).repeat(len(cut))

    both = patches(range(0, SIZE - 2 * SIDE + 1, 2)), patches(range(SIZE - SIDE, SIZE - SIDE + 1))
    trained = train_extractor(*both[0], *both[1], steps=steps)
    return Demo(trained.net, f"it knows the scene of {trained.accuracy:.1%} of held-out patches, chance is {trained.chance:.1%}")


def load_demo(file: Path) -> Demo:
    """The demo extractor from a file, trained and saved there if it does not exist: so its hash stays the same.

    Raises:
        UserError: the file holds something else.
    """
    if not file.is_file():
        demo = train_demo()
        save_weights(file, demo.net.state_dict(), {"ability": demo.ability})
    state, metadata = read_weights(file)
    try:
        net = SmallExtractor(len(state["head.weight"]), width=len(state["stages.0.0.weight"]))
        net.load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        why = str(error).splitlines()[-1].strip()[:150]
        raise UserError(f"{file}: not the weights of the small extractor ({why}); without --weights it is trained") from error
    return Demo(net, str(metadata.get("ability", "")))


PUBLISHED: dict[str, tuple[Callable[[Path], Extractor], WeightFile]] = {
    "inception": (Inception, INCEPTION),
    "vgg16": (VGG, VGG16),
    "dinov2": (DinoV2, DINOV2),
}
EXTRACTORS = (*PUBLISHED, "demo")


def load_extractor(name: str, given: str | None = None, folder: Path = FOLDER) -> Extractor:
    """An extractor by its short name.

    Args:
        name: one of EXTRACTORS.
        given: its file or folder; None is the published name in `folder`.
        folder: of weight files.

    Raises:
        UserError: an unknown name, or a file that holds something else.
        MissingFile: no such file; names it, its checksum and its source.
    """
    if name in PUBLISHED:
        network, published = PUBLISHED[name]
        return network(published.find(given, folder))
    if name == "demo":
        if given and not Path(given).is_file():  # a mistyped name must not train another network there
            raise MissingFile(f"{given}: no such file with weights of the small extractor; without --weights it is trained")
        return load_demo(Path(given) if given else folder / "demo-extractor.safetensors")
    raise UserError(f"extractor {name!r} is unknown; there are {', '.join(EXTRACTORS)}")
