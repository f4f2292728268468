"""Files and folders that a row needs, and where to get them."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ldm.config import load
from ldm.first_stage.perceptual import VGG16
from ldm.system.shell import command
from paper.sizes import config_file, config_of
from paper.tables import Row, sources


@dataclass(frozen=True)
class OwnPaths:
    """Paths and settings of the command line.

    Attributes:
        models: folder of trained models: first_stage/NAME.safetensors and ldm/NAME.safetensors.
        model: run folder or file of the requested row.
        weights: file of the Inception weights.
        overrides: `paths.x=...` for the configs.
        batch: batch size of sampling.
        device: as in the scripts' flags.
    """

    models: Path = Path("models")
    model: str = ""
    weights: str = ""
    overrides: tuple[str, ...] = ()
    batch: int = 16
    device: str = "auto"


@dataclass(frozen=True)
class Need:
    """A file or folder that a row needs: its expected path, a description, and where to get it."""

    path: Path
    what: str
    where: str

    @property
    def there(self) -> bool:
        return self.path.exists()


def model_path(config: str, own: OwnPaths) -> Path:
    """Expected path of a config's trained model."""
    return own.models / f"{config}.safetensors"


def own_model(row: Row, own: OwnPaths) -> Path:
    """Expected path of a row's model."""
    return Path(own.model) if own.model else model_path(row.config, own)


def model_need(config: str, path: Path) -> Need:
    """A trained model, with the address of the authors' model if it was published."""
    released = sources()["released"].get(config)
    train = f"train it: {command('main.py', '--base', f'configs/{config}.yaml', '--train')}"
    bring = command("scripts/convert.py", "model.ckpt", path, "--to", "ldm")
    fetch = f", or download {released} and convert it with {bring}" if released else ""
    return Need(path, f"trained model of configs/{config}.yaml", train + fetch)


def source_need(kind: str, name: str, path: str = "") -> Need:
    """An entry of sources.yaml."""
    entry = sources()[kind][name]
    return Need(Path(path or entry["path"]), entry["what"], entry["where"])


def needs_to_train(row: Row, own: OwnPaths) -> list[Need]:
    """Data, first stage and starting weights of the training of a row's model, and of its classifier."""
    found = []
    for config in configs(row):
        for key, path in (config_of(config, own.overrides).data.get("paths") or {}).items():
            if key in ("first_stage", "start"):
                folder = "first_stage" if key == "first_stage" else "ldm"
                found.append(model_need(f"{folder}/{Path(path).stem}", Path(path)))
            else:
                found.append(source_need("data", key, str(path or lpips_weights())))
    return list(dict.fromkeys(found))


def configs(row: Row) -> list[str]:
    """Configs of all models that a row trains."""
    return [row.config, *([row.classifier] if row.classifier else [])]


def lpips_weights() -> Path:
    """Default path of VGG16's weights: torchvision's cache."""
    return Path(torch.hub.get_dir()) / "checkpoints" / VGG16


def config_path(key: str, data: str, own: OwnPaths) -> str:
    """A path of a data config, or its override."""
    words = dict(word.split("=", 1) for word in own.overrides if "=" in word)
    return words.get(f"paths.{key}") or str(load([config_file(f"data/{data}")]).data["paths"][key])
