"""A trained model in one object, for notebooks and programs: `ldm.load(path).sample(n=4, prompt="...")`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, overload

import torch
from PIL import Image
from torch import Tensor

from ldm.checkpoint.frozen import first_stage_source, frozen
from ldm.checkpoint.load import load_model
from ldm.checkpoint.read import read_source
from ldm.checkpoint.source import trained_size
from ldm.cli.condition_flags import Condition, batch_of, check_captions
from ldm.cli.job import UNKNOWN_SIZE
from ldm.cli.other_conditions import entry
from ldm.config import AllowedTargets, trust_packages
from ldm.data.classes import NAMED, Classes, class_names
from ldm.data.images import to_image, to_tensor
from ldm.errors import UserError
from ldm.first_stage.base import FirstStage
from ldm.model import LatentDiffusion
from ldm.precision import sampling_context
from ldm.ranges import integer, integers
from ldm.sampling.generate import SamplerSettings, generate
from ldm.sampling.options import SamplingOptions
from ldm.system.device import pick_device

Pictures = Image.Image | Tensor | Sequence[Image.Image]


class Autoencoder:
    """A trained first stage: images to latents and back.

    Attributes:
        first_stage: the module, in eval mode, on `device`.
        device: its device.
    """

    def __init__(self, first_stage: FirstStage, device: torch.device) -> None:
        self.first_stage, self.device = first_stage.to(device).eval(), device

    @torch.no_grad()
    def encode(self, images: Pictures) -> Tensor:
        """Images of one size, or `(n, C, H, W)` in [-1, 1] -> latents `(n, c, h, w)`: the mode, unscaled."""
        return self.first_stage.encode(self._tensor(images))

    @overload
    def decode(self, latents: Tensor, output: Literal["pil"] = "pil") -> list[Image.Image]: ...
    @overload
    def decode(self, latents: Tensor, output: Literal["tensor"]) -> Tensor: ...

    @torch.no_grad()
    def decode(self, latents: Tensor, output: Literal["pil", "tensor"] = "pil") -> list[Image.Image] | Tensor:
        """Latents `(n, c, h, w)` -> images, or a tensor `(n, C, H, W)` in [-1, 1]."""
        return self._output(self.first_stage.decode(latents.to(self.device)), output)

    def sample(self, *args: Any, **kwargs: Any) -> Any:
        """Only models of stage two sample.

        Raises:
            UserError: always.
        """
        raise UserError("this is a first stage, which encodes and decodes images; load a run of stage two to sample")

    def _tensor(self, images: Pictures) -> Tensor:
        channels = self.first_stage.image_channels
        several = [images] if isinstance(images, Image.Image) else list(images)
        if not several or (isinstance(images, Tensor) and (images.ndim != 4 or images.shape[1] != channels)):
            got = tuple(images.shape) if isinstance(images, Tensor) else "none"
            raise UserError(f"images must be (n, {channels}, H, W), got {got}")
        if isinstance(images, Tensor):
            return images.to(self.device)
        mode = {1: "L", 3: "RGB"}.get(channels)
        if mode is None:
            raise UserError(f"this model's images have {channels} channels: give a tensor (n, C, H, W)")
        if len({image.size for image in several}) > 1:
            raise UserError(f"images differ in size: {sorted({image.size for image in several})}")
        return torch.stack([to_tensor(image.convert(mode)) for image in several]).to(self.device)

    def _output(self, images: Tensor, output: str) -> list[Image.Image] | Tensor:
        if output not in ("pil", "tensor"):
            raise UserError(f"output {output!r} is unknown; there are pil, tensor")
        images = images.float().clamp(-1, 1)
        return images if output == "tensor" else [to_image(image) for image in images]


class Pipeline(Autoencoder):
    """A latent diffusion model: sampling, and its first stage.

    Attributes:
        model: the module, in eval mode, on `device`.
        config: the config that it was trained with.
        settings: default sampler settings, from the config.
        size: height and width of images in training.
        class_names: names of classes in the order of their indices, by key ("label", "boxes"); empty without names.
    """

    def __init__(self, model: LatentDiffusion, config: dict[str, Any], device: torch.device) -> None:
        super().__init__(model.first_stage, device)
        self.model, self.config = model.to(device).eval(), config
        known = SamplerSettings.__dataclass_fields__
        self.settings = SamplerSettings(**{key: value for key, value in (config.get("sampling") or {}).items() if key in known})
        self.size = trained_size(config) or (UNKNOWN_SIZE, UNKNOWN_SIZE)
        self.class_names = class_names(config)

    @torch.no_grad()
    def encode(self, images: Pictures) -> Tensor:
        """Images of one size, or `(n, C, H, W)` in [-1, 1] -> latents `(n, c, h, w)` of the network: the mode, scaled."""
        return self.model.encode(self._tensor(images))

    @torch.no_grad()
    def decode(self, latents: Tensor, output: Literal["pil", "tensor"] = "pil") -> Any:
        """Latents as `encode` gives them -> images, or a tensor `(n, C, H, W)` in [-1, 1]."""
        return self._output(self.model.decode(latents.to(self.device)), output)

    def sample(
        self,
        n: int = 1,
        *,
        prompt: str | Sequence[str] | None = None,
        label: int | str | Sequence[int | str] | None = None,
        negative: str | None = None,
        size: tuple[int, int] | None = None,
        seed: int = 0,
        batch: int = 16,
        precision: str = "fp32",
        output: Literal["pil", "tensor"] = "pil",
        options: SamplingOptions | None = None,
        settings: dict[str, Any] | None = None,
        **conditions: Any,
    ) -> Any:
        """Sample images.

        Args:
            n: number of images.
            prompt: caption, or several that are used in turn, for models that read captions.
            label: class by index or name, or several that are used in turn; all classes if None.
            negative: negative caption for guidance.
            size: height and width; as in training if None.
            seed: image i depends on (seed, i) only.
            batch: images per batch.
            precision: "fp32", "bf16", "fp16", or "auto" for the fastest on the device.
            output: "pil", or "tensor" for `(n, C, H, W)` in [-1, 1].
            options: starting images, known regions, tiles and guides.
            settings: sampler settings that override those of the config: sampler, steps, scale, eta, ...
            conditions: other conditions by key: one value for all images, or a list that is used in turn.

        Raises:
            UserError: a condition that the model does not read or that is missing, or an unsupported setting.
        """
        known = self.settings.__dict__
        if unknown := [key for key in settings or {} if key not in known]:
            raise UserError(f"settings: {unknown[0]!r} is unknown; there are {', '.join(known)}")
        wanted = SamplerSettings(**{**known, **(settings or {})})
        try:
            integer(n=n, batch=batch)
            integers(0, size=size)
        except ValueError as error:
            raise UserError(str(error)) from error
        each = self._conditions(n, prompt, label, conditions)
        parts = []
        for first in range(0, n, batch):
            numbers = range(first, min(first + batch, n))
            here = batch_of([each[i] for i in numbers])
            if negative is not None:
                if "caption" not in here:
                    raise UserError("negative: this model reads no captions")
                check_captions(self.model, [negative], "negative")
                options = SamplingOptions(**{**(options or SamplingOptions()).__dict__, "negative": {"caption": [negative] * len(numbers)}})
            with sampling_context(precision, self.device):
                parts.append(generate(self.model, here, numbers, size or self.size, wanted, seed, options).cpu())
        return self._output(torch.cat(parts), output)

    def _conditions(self, n: int, prompt: Any, label: Any, others: dict[str, Any]) -> list[Condition]:
        keys = self.model.conditioner.keys
        given = {name: value for name, value in {"caption": prompt, "label": label, **others}.items() if value is not None}
        if unknown := [name for name in given if name not in keys]:
            word = {"caption": "prompt"}.get(unknown[0], unknown[0])
            raise UserError(f"{word}: this model reads {', '.join(keys) or 'no condition'}")
        if "label" in keys and "label" not in given:
            given["label"] = list(range(int(keys["label"].high or 0) + 1))
        if missing := [name for name in keys if name not in given]:
            raise UserError(f"this model reads {', '.join(missing)}: give {', '.join(f'{name}=...' for name in missing)}")
        values = {name: self._values(name, value) for name, value in given.items()}
        check_captions(self.model, values.get("caption", []), "prompt")
        return [Condition({name: several[i % len(several)] for name, several in values.items()}) for i in range(n)]

    def _values(self, name: str, value: Any) -> list[Any]:
        """The value given for a key, as a list of entries."""
        key = self.model.conditioner.keys[name]
        if isinstance(value, Tensor) and value.ndim == len(key.shape) + 1 and key.dtype is not str:
            value = list(value)
        single = not isinstance(value, list | tuple) or (key.shape != () and value and isinstance(value[0], int | float | str))
        if not single and not value:
            raise UserError(f"{'prompt' if name == 'caption' else name}: the list is empty")
        return [self._entry(name, one) for one in ([value] if single else value)]

    def _entry(self, name: str, value: Any) -> Any:
        if isinstance(value, Image.Image):
            return self._tensor(value)[0].cpu()
        key = self.model.conditioner.keys[name]
        if name in NAMED and not isinstance(value, Tensor):
            value = self._numbered(name, value)
        if not isinstance(value, Tensor):
            return entry(name, key, value, name)
        made = value.cpu()
        if wrong := key.problems(name, [made] if key.listed else made[None], "this model"):
            raise UserError(wrong[0])
        return made

    def _numbered(self, name: str, value: Any) -> Any:
        """A class, or a list of classes, with the index of each name."""
        if isinstance(value, list | tuple):
            return [self._numbered(name, one) for one in value]
        if not isinstance(value, str):
            return value
        count = int(self.model.conditioner.keys[name].high or 0) + 1
        try:
            return Classes(count, self.class_names.get(NAMED[name], ())).index(value)
        except ValueError as error:
            raise UserError(f"{name} {value!r}: {error}") from error


def load(path: str | Path, device: str = "auto", trust: str | Sequence[str] = (), **options: Any) -> Pipeline | Autoencoder:
    """A model from a run folder, weights, a CompVis checkpoint or a diffusers folder.

    Args:
        path: path of the model.
        device: "auto", "cpu", "cuda", "mps", ...
        trust: your own package, or several, that its config may name.
        options: arguments of `ldm.checkpoint.load.load_model`: first_stage, raw, config, tokenizer, ...

    Returns:
        A `Pipeline`; an `Autoencoder` for a first stage.

    Raises:
        MissingFile, UserError: with the file and what was expected.
    """
    where, packages = pick_device(device), (trust,) if isinstance(trust, str) else tuple(trust)
    trust_packages(packages, also=True)  # for the sampler that its config may name
    if not options and not read_source(str(path)).stage_two:
        return Autoencoder(frozen(first_stage_source(str(path)), AllowedTargets(packages).for_model()), where)
    loaded = load_model(str(path), trust=AllowedTargets(packages), **options)
    return Pipeline(loaded.model, loaded.config, where)
