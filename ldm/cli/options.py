"""From flags to sampling options: starting images, image guidance, classifier guidance."""

import argparse
import math
from collections.abc import Callable

from PIL import Image
from torch import Tensor

from ldm.cli.job import Job, Steer
from ldm.cli.pictures import cover, read_picture
from ldm.data.batch import Batch
from ldm.data.images import to_tensor
from ldm.diffusion.guidance import Denoise, classifier_guided
from ldm.diffusion.image_guidance import gaussian, image_guided, perceptual, reduced_to
from ldm.diffusion.tiling import Tiles
from ldm.errors import UserError
from ldm.first_stage import LPIPS
from ldm.networks import NoisyClassifier
from ldm.sampling.options import SamplingOptions

Guide = Callable[[Denoise], Denoise]
SMALLEST_LPIPS = 16  # pixels: VGG16 halves its input four times before the last features that are compared


def steering_from_flags(job: Job, size: tuple[int, int], classifier: NoisyClassifier | None = None) -> Steer:
    """`--init`, `--guide`, `--negative`, `--window` and a classifier, whichever the script has and the user gave.

    Raises:
        MissingFile, UserError: files and numbers that cannot be used.
    """
    flags, windows = job.flags, job.windows()
    start = start_image(job, size)
    target = picture_of(job, "guide")
    guides: list[Guide] = []
    if target is not None:
        guides.append(image_guide(job, to_tensor(in_proportion(target, size))[None], windows))
    negative = getattr(flags, "negative", None)

    def steer(batch: Batch) -> SamplingOptions:
        more = [] if classifier is None else [classifier_guide(job, classifier, batch["label"])]
        away = None if negative is None else {"caption": [negative] * len(batch["caption"])}
        strength = getattr(flags, "strength", 1.0)
        return SamplingOptions(negative=away, start=start, strength=strength, tiles=windows, guides=[*guides, *more])

    return steer


def picture_of(job: Job, flag: str) -> Image.Image | None:
    """The picture that a flag names, in the model's channels; None without the flag."""
    path = getattr(job.flags, flag, None)
    return None if path is None else read_picture(path, job.model.first_stage.image_channels)


def in_proportion(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The middle of a picture, of the proportions of a size (height and width) and no larger: samples are reduced to it evenly."""
    share = min(1.0, picture.height / size[0], picture.width / size[1])
    return cover(picture, max(1, round(share * size[0])), max(1, round(share * size[1])))


def start_image(job: Job, size: tuple[int, int]) -> Tensor | None:
    """The image of `--init` at the size that is sampled, `(1, C, H, W)`.

    Raises:
        UserError: a strength out of range.
    """
    picture = picture_of(job, "init")
    if picture is None:
        return None
    if not 0.0 < job.flags.strength <= 1.0:
        raise UserError(f"--strength {job.flags.strength}: expected more than 0 and at most 1")
    return to_tensor(cover(picture, *size))[None]


def image_guide(job: Job, target: Tensor, windows: Tiles | None = None) -> Guide:
    """The guider of `--guider` and `--guide-scale` towards targets `(B or 1, C, h, w)`, to which samples are reduced.

    Raises:
        MissingFile: the weights of LPIPS are missing.
        UserError: a negative scale, or a target too small for LPIPS.
    """
    flags, model = job.flags, job.model
    if not (math.isfinite(flags.guide_scale) and flags.guide_scale >= 0):
        raise UserError(f"--guide-scale {flags.guide_scale}: expected 0 or more")
    target = target.to(model.device)
    transform = reduced_to(target.shape[2], target.shape[3])
    if flags.guider == "lpips":
        if min(target.shape[2:]) < SMALLEST_LPIPS:
            raise UserError(f"--guider lpips: the target is {target.shape[3]}x{target.shape[2]}, LPIPS needs {SMALLEST_LPIPS} or more")
        lpips = LPIPS(flags.vgg16).to(target.device)
        lpips.load()
        log_p = perceptual(target, transform, lpips)
    else:
        log_p = gaussian(target, transform)
    return lambda denoise: image_guided(denoise, lambda z: model.decode(z, windows), log_p, flags.guide_scale, model.process)


def classifier_guide(job: Job, classifier: NoisyClassifier, label: Tensor) -> Guide:
    """Classifier guidance towards labels `(B,)` at `--classifier-scale`."""
    process, label = job.model.process, label.to(job.model.device)

    def log_p(z_t: Tensor, t: Tensor) -> Tensor:
        logits = classifier(process.scale_input(z_t, t), process.network_time(t))
        return logits.float().log_softmax(dim=1).gather(1, label[:, None])[:, 0]  # type: ignore[no-any-return]

    return lambda denoise: classifier_guided(denoise, log_p, job.flags.classifier_scale, process)


def check_latent(job: Job, classifier: NoisyClassifier, size: tuple[int, int]) -> None:
    """Whether a classifier takes latents of this size.

    Raises:
        UserError: it was built for another.
    """
    f = job.model.first_stage.factor
    if size != (classifier.size * f, classifier.size * f):
        raise UserError(f"--classifier: it was built for images of {classifier.size * f}x{classifier.size * f}, not {size[0]}x{size[1]}")


def need_scale(flags: argparse.Namespace, scale: float) -> None:
    """A negative prompt does nothing without guidance.

    Raises:
        UserError: the scale is 1.
    """
    if flags.negative is not None and scale == 1.0:
        raise UserError("--negative works through guidance: give a --scale other than 1")
