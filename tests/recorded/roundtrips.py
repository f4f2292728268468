"""What `scripts/roundtrips.py` does: convert recorded models to every form and back, and sample them with diffusers as well."""

import importlib.util
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from ldm.checkpoint.convert import build_model, to_compvis, to_diffusers, to_ldm, with_first_stage
from ldm.checkpoint.read import read_source
from ldm.conditioning import Conditioner
from ldm.data.batch import Batch
from ldm.diffusion.sampling import ddim
from ldm.interop.compvis import read_state, write_state
from ldm.system.files import write_text
from recorded.case import cases_in, read_case

STEPS = 10
LARGEST = 1e-4


def roundtrips(folder: Path) -> Iterator[dict[str, Any]]:
    """Every model of a folder through every conversion; its name, its number of keys, and what came back, in words."""
    torch.set_num_threads(1)  # the models are tiny
    for name in cases_in(folder):
        case = read_case(folder, name)
        if "model" not in case.params:
            continue
        with tempfile.TemporaryDirectory() as temporary:
            yield {"name": name, "keys": len(case.weights), **through(case.params["model"], case.weights, Path(temporary))}


def through(tree: dict[str, Any], weights: dict[str, Tensor], folder: Path) -> dict[str, Any]:
    """One model through every conversion; what came back, in words."""
    write_state(folder / "in" / "model.ckpt", weights, 0)
    write_text(folder / "in" / "config.yaml", yaml.safe_dump({"model": tree}))
    to_ldm(with_first_stage(read_source(str(folder / "in" / "model.ckpt"))), folder / "ours.safetensors")
    ours = read_source(str(folder / "ours.safetensors"))
    to_compvis(ours, folder / "back")
    back = read_state(folder / "back" / "model.ckpt")
    exact = same(weights, back)
    to_diffusers(ours, folder / "diffusers")
    there = read_source(str(folder / "diffusers"))
    exact_there = same(ours.weights.chosen(), there.weights.chosen())
    difference = image_difference(build_model(ours), folder / "diffusers")
    words = {True: "every bit", False: "NOT the same"}
    images = "not compared: diffusers is not installed" if difference is None else f"largest difference {difference:.1e}"
    passed = exact and exact_there and (difference is None or difference < LARGEST)
    return {"passed": passed, "compvis": words[exact], "diffusers": words[exact_there], "images": images}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether two state dicts have the same names, and the same bits below them."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def batch_for(conditioner: Conditioner, size: int) -> Batch:
    """Two conditions of the kind that a conditioner reads, for images of a size."""
    g = torch.Generator().manual_seed(5)
    everything: Batch = {
        "label": torch.tensor([0, 1]),
        "masked_image": torch.rand(2, 3, size, size, generator=g) * 2 - 1,
        "mask": (torch.rand(2, 1, size, size, generator=g) > 0.5).float(),
        "segmentation": torch.randint(0, getattr(conditioner, "num_classes", 1), (2, size, size), generator=g),
        "boxes": [torch.tensor([[0.1, 0.2, 0.6, 0.9]])] * 2,
        "box_labels": [torch.tensor([0]), torch.tensor([1])],
    }
    return {key: everything[key] for key in conditioner.reads}


@torch.no_grad()
def image_difference(model: Any, folder: Path) -> float | None:
    """Largest difference between our images and diffusers' own, from the same noise; none where diffusers is not installed."""
    if importlib.util.find_spec("diffusers") is None:
        return None
    shape = model.first_stage.latent_shape(16, 16)
    start = torch.randn(2, *shape, generator=torch.Generator().manual_seed(3))
    batch = batch_for(model.conditioner, 16)
    return float((our_images(model, batch, start) - their_images(model, folder, batch, start)).abs().max())


@torch.no_grad()
def our_images(model: Any, batch: Batch, start: Tensor, steps: int = STEPS) -> Tensor:
    """DDIM of this project, decoded."""
    z = ddim(model.denoiser(batch), start, model.process, model.process.spacings()["uniform"](steps), noise=torch.randn_like)
    return model.decode(z)  # type: ignore[no-any-return]


@torch.no_grad()
def their_images(model: Any, folder: Path, batch: Batch, start: Tensor, steps: int = STEPS) -> Tensor:
    """diffusers' classes and scheduler; only what it has no class for, the conditioning, is ours."""
    import diffusers

    stage_folder = next(folder / name for name in ("vqvae", "vae") if (folder / name).is_dir())
    unet, stage = (_loaded(diffusers, part) for part in (folder / "unet", stage_folder))
    scheduler = diffusers.DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
    scheduler.set_timesteps(steps)
    c, z = model.condition(batch), start
    for t in scheduler.timesteps:
        taken = z if c.concat is None else torch.cat([z, c.concat], dim=1)
        output = unet(taken, t).sample if c.context is None else unet(taken, t, encoder_hidden_states=c.context).sample
        z = scheduler.step(output, t, z).prev_sample
    return stage.decode(z / stage.config.scaling_factor).sample  # type: ignore[no-any-return]


def _loaded(diffusers: Any, folder: Path) -> Any:
    kind = getattr(diffusers, json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"])
    part, report = kind.from_pretrained(folder, output_loading_info=True, low_cpu_mem_usage=False)
    if any(report.values()):
        raise AssertionError(f"{folder}: diffusers reports {report}")
    return part
