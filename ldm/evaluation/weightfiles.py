"""Weight files of the networks of measures: found in one folder, read without executing anything, identified by their checksum."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ldm.errors import MissingFile, UserError
from ldm.system.files import file_sha256
from ldm.system.weights import read_pickle

FOLDER = Path("models/metrics")
OTHER = "with weights that are not the published file"


@dataclass(frozen=True)
class WeightFile:
    """A published file or folder.

    Attributes:
        name: of the file or folder.
        what: its content.
        source: its address.
        sha256: the beginning of its SHA-256; empty if none is published.
        instead: advice for a user without it.
    """

    name: str
    what: str
    source: str
    sha256: str = ""
    instead: str = ""

    def find(self, given: str | None, folder: Path = FOLDER, flag: str = "--weights") -> Path:
        """The given file, or the one in the folder.

        Raises:
            MissingFile: it does not exist; names it, its checksum and its source.
        """
        path = Path(given) if given else folder / self.name
        if path.exists():
            return path
        checksum = f" (SHA-256 begins with {self.sha256})" if self.sha256 else ""
        raise MissingFile(
            f"{path}: {self.what} is missing{checksum}; get it from {self.source}, put it there or name it with {flag}{self.instead}"
        )

    def genuine(self, sha256: str) -> bool:
        """Whether a checksum is the published one; False if none is published."""
        return bool(self.sha256) and sha256.startswith(self.sha256)


INCEPTION = WeightFile(
    "weights-inception-2015-12-05-6726825d.pth",
    "torch-fidelity's Inception (the TensorFlow weights of 2015-12-05)",
    "https://github.com/toshas/torch-fidelity/releases/tag/v0.2.0",
    "6726825d",
    "; without it, --extractor demo measures a distance that is not FID",
)
VGG16 = WeightFile(
    "vgg16-397923af.pth", "torchvision's VGG16 for ImageNet", "https://download.pytorch.org/models/vgg16-397923af.pth", "397923af"
)
DINOV2 = WeightFile("dinov2-large", "the folder of DINOv2 ViT-L/14", "https://huggingface.co/facebook/dinov2-large")
CLIP = WeightFile("clip-vit-base-patch16", "the folder of CLIP ViT-B/16", "https://huggingface.co/openai/clip-vit-base-patch16")


def read_state(path: Path, what: str) -> tuple[dict[str, Tensor], str]:
    """Tensors of a .safetensors or .pth file, and its SHA-256; nothing in the file is executed.

    Raises:
        UserError: a damaged file, or one of something else.
    """
    try:
        state: Any = load_file(path) if path.suffix == ".safetensors" else read_pickle(path, f"not a complete file of {what}")
    except SafetensorError as error:
        raise UserError(f"{path}: not a complete file of {what} ({error})") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: expected {what} as tensors by name")
    return state, file_sha256(path)


def in_memory(state: dict[str, Tensor]) -> io.BytesIO:
    """A state as a file for torch-fidelity's constructors, which load without `weights_only` and therefore get no file of a user."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer


def folder_sha256(folder: Path) -> str:
    """SHA-256 over names and SHA-256 of a model folder's files: weights in one part or several, configuration and vocabulary.

    The same weights under another config.json (its number of heads, say) are another network, with other features.

    Raises:
        UserError: no safetensors in it; other formats can contain code and are not read.
    """
    files = sorted(path for path in folder.glob("*") if path.suffix in (".safetensors", ".json", ".txt"))
    if not any(path.suffix == ".safetensors" for path in files):
        raise UserError(f"{folder}: expected a folder with config.json and model.safetensors")
    return hashlib.sha256("".join(f"{path.name} {file_sha256(path)}\n" for path in files).encode()).hexdigest()
