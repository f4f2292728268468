"""The files and folders that a row reads, and where people get them."""

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
    """What the user names instead of the places where things are looked for.

    Attributes:
        models: folder of trained models: first_stage/NAME.safetensors and ldm/NAME.safetensors.
        model: run folder or file of the one row that is asked for.
        weights: file of the Inception weights.
        overrides: `paths.x=...` words for the configs.
        batch: images at a time.
        device: as the scripts take it.
    """

    models: Path = Path("models")
    model: str = ""
    weights: str = ""
    overrides: tuple[str, ...] = ()
    batch: int = 16
    device: str = "auto"


@dataclass(frozen=True)
class Need:
    """A file or folder that a row reads.

    Attributes:
        path: where it is looked for.
        what: it is.
        where: people get it.
    """

    path: Path
    what: str
    where: str

    @property
    def there(self) -> bool:
        return self.path.exists()


def model_path(config: str, asked: OwnPaths) -> Path:
    """Where the trained model of a config is looked for."""
    return asked.models / f"{config}.safetensors"


def own_model(row: Row, asked: OwnPaths) -> Path:
    """Where a row's model is looked for."""
    return Path(asked.model) if asked.model else model_path(row.config, asked)


def model_need(config: str, path: Path) -> Need:
    """A trained model, with where the authors' own is, if they published it."""
    released = sources()["released"].get(config)
    train = f"train it: {command('main.py', '--base', f'configs/{config}.yaml', '--train')}"
    bring = command("scripts/convert.py", "model.ckpt", path, "--to", "ldm")
    fetch = f", or fetch {released} and bring it there with {bring}" if released else ""
    return Need(path, f"trained model of configs/{config}.yaml", train + fetch)


def source_need(kind: str, name: str, path: str = "") -> Need:
    """Something of sources.yaml."""
    entry = sources()[kind][name]
    return Need(Path(path or entry["path"]), entry["what"], entry["where"])


def needs_to_train(row: Row, asked: OwnPaths) -> list[Need]:
    """Data, first stage and starting weights of the training of a row's model, and of its classifier."""
    found = []
    for config in configs(row):
        for key, path in (config_of(config, asked.overrides).data.get("paths") or {}).items():
            if key in ("first_stage", "start"):
                folder = "first_stage" if key == "first_stage" else "ldm"
                found.append(model_need(f"{folder}/{Path(path).stem}", Path(path)))
            else:
                found.append(source_need("data", key, str(path or lpips_weights())))
    return list(dict.fromkeys(found))


def configs(row: Row) -> list[str]:
    """Of all that a row trains."""
    return [row.config, *([row.classifier] if row.classifier else [])]


def lpips_weights() -> Path:
    """Where VGG16's weights lie if nobody says otherwise: torchvision's cache."""
    return Path(torch.hub.get_dir()) / "checkpoints" / VGG16


def config_path(key: str, data: str, asked: OwnPaths) -> str:
    """A path of a data config, with the user's words over it."""
    words = dict(word.split("=", 1) for word in asked.overrides if "=" in word)
    return words.get(f"paths.{key}") or str(load([config_file(f"data/{data}")]).data["paths"][key])
