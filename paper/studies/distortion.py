"""Figure 2: rate and distortion of a trained model, by progressive coding as in Ho et al. (2020), Sec. 4.3.

The rate is the sum of the divergences of the variational bound from T down to t (`ldm.diffusion.progressive`), in bits per dimension
of the image: what a receiver needs to know z_t. The distortion is the RMSE, on the scale of 0 to 255, between the image and the
decoded prediction of z_0 from this z_t. For a model on pixels this is the curve of figure 2. For a latent model the distortion ends at
the reconstruction error of the first stage; the error of the latent is given too.
"""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ldm.checkpoint.load import LoadedModel
from ldm.config import AllowedTargets, build
from ldm.data.batch import Batch, collate
from ldm.diffusion import DiscreteProcess, code_times, progressive
from ldm.errors import UserError
from ldm.rng import generator
from ldm.sampling.generate import to_device
from paper.chart import Axis, draw_chart

BATCH = 48


def held_out(loaded: LoadedModel, count: int) -> Batch:
    """The first images of the model's validation data, with their conditions.

    Raises:
        UserError: the config has no validation data, or fewer images.
    """
    node = loaded.config.get("data", {}).get("params", {}).get("validation")
    if node is None:
        raise UserError(f"{loaded.path}: the config inside names no validation data (data.params.validation)")
    images = build(node, AllowedTargets().for_data(), "data.params.validation")
    if len(images) < count:
        raise UserError(f"data.params.validation has {len(images)} images, {count} are requested")
    return collate([images[i] for i in range(count)])


@torch.no_grad()
def rate_distortion(loaded: LoadedModel, batch: Batch, steps: int, seed: int = 0, progress: bool = True) -> dict[str, Any]:
    """The curve over a batch of images.

    Args:
        loaded: the model.
        batch: with `image` `(N, C, H, W)` and conditions, which are known to the receiver and not counted.
        steps: of the code, 2 to T.
        seed: of the noise.
        progress: show a bar.

    Returns:
        `points`, from T down: time, bits per image dimension and per latent dimension, the errors in pixels (0 to 255) and latents.

    Raises:
        UserError: the process has fewer steps, or no discrete times.
    """
    model, images, process = loaded.model, batch["image"], loaded.model.process
    if not isinstance(process, DiscreteProcess):
        raise UserError(f"{loaded.path}: progressive coding is over discrete times, unlike those of {type(process).__name__}")
    try:
        times = code_times(process.T, steps)
    except ValueError as error:
        raise UserError(str(error)) from error
    nats, pixels, latents = (torch.zeros(len(times), dtype=torch.float64) for _ in range(3))
    dimensions, noise = 0, generator("rate-distortion", seed)
    with tqdm(total=len(times) * math.ceil(len(images) / BATCH), desc="rate-distortion", unit="step", disable=not progress) as bar:
        for first in range(0, len(images), BATCH):
            part = to_device({key: batch[key][first : first + BATCH] for key in ("image", *model.conditioner.reads)}, model.device)
            z_0 = model.encode(part["image"]).float()
            dimensions = z_0[0].numel()
            for i, received in enumerate(progressive(model.denoiser(part), z_0, process, times, noise)):
                nats[i] += received.nats.sum()
                pixels[i] += summed_error(model.decode(received.z_0).float().clamp(-1, 1) * 127.5, part["image"] * 127.5)
                latents[i] += summed_error(received.z_0, z_0)
                bar.update()
    bits = nats / len(images) / math.log(2.0)
    rmse, latent_rmse = ((total / len(images)).sqrt().tolist() for total in (pixels, latents))
    points = [
        {
            "t": t,
            "bits_per_dim": float(bits[i]) / images[0].numel(),
            "bits_per_latent_dim": float(bits[i]) / dimensions,
            "rmse": rmse[i],
            "latent_rmse": latent_rmse[i],
        }
        for i, t in enumerate(times)
    ]
    return {
        "what": "progressive coding of Ho et al. (2020), Sec. 4.3: divergences of the bound from T to t, without the last term",
        "images": len(images),
        "image_shape": list(images.shape[1:]),
        "latent_dimensions": dimensions,
        "steps": steps,
        "T": process.T,
        "seed": seed,
        "weights_sha256": loaded.sha256,
        "trained_steps": loaded.step,
        "shares": shares(points),
        "points": points,
    }


def summed_error(a: Tensor, b: Tensor) -> Tensor:
    """Sum over images of their mean squared errors."""
    return (a.double() - b.double()).square().flatten(1).mean(dim=1).sum().cpu()


def shares(points: list[dict[str, float]], within: tuple[float, ...] = (20.0, 10.0, 5.0)) -> dict[str, float | None]:
    """Bits per dimension at which the RMSE first falls to each limit, None if it never does; all bits as "all"."""
    found: dict[str, float | None] = {
        f"rmse_{limit:g}": next((p["bits_per_dim"] for p in points if p["rmse"] <= limit), None) for limit in within
    }
    return {**found, "all": points[-1]["bits_per_dim"]}


def draw(found: dict[str, Any], path: Path, title: str) -> None:
    """The curve as a PNG."""
    line = [(p["bits_per_dim"], p["rmse"]) for p in found["points"]]
    draw_chart(path, {"RMSE": line}, Axis("rate, bits per dimension of the image"), Axis("distortion, RMSE of [0, 255]"), title)
