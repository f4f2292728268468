"""Sampling options from flags: starting images, negative captions, tiles, image guidance, classifier guidance."""

from collections.abc import Callable

from PIL import Image
from torch import Tensor

from ldm.cli.job import Job
from ldm.cli.pictures import cover, read_picture
from ldm.cli.tiles import tiles_from_flags
from ldm.data.batch import Batch
from ldm.data.images import to_tensor
from ldm.diffusion.guidance import Denoise, classifier_guided
from ldm.diffusion.image_guidance import gaussian, image_guided, perceptual, reduced_to
from ldm.diffusion.process import Process
from ldm.diffusion.tiling import Tiles
from ldm.errors import UserError
from ldm.first_stage import LPIPS
from ldm.networks import NoisyClassifier
from ldm.sampling.options import SamplingOptions

Guide = Callable[[Denoise], Denoise]
SMALLEST_LPIPS = 16  # pixels: VGG16 halves its input four times before the last features that are compared


def options_from_flags(job: Job, size: tuple[int, int]) -> Callable[[Batch], SamplingOptions]:
    """The sampling options of a batch of conditions, for images of one height and width.

    Raises:
        MissingFile, UserError: files and numbers that cannot be used.
    """
    flags, tiles = job.flags, tiles_from_flags(job)
    start, target = start_image(job, size), read_flag(job, "guide")
    guides = [] if target is None else [image_guide(job, to_tensor(in_proportion(target, size))[None], tiles)]
    if job.classifier is not None:
        check_latent(job, job.classifier, size)
    negative, strength = getattr(flags, "negative", None), getattr(flags, "strength", 1.0)

    def options(batch: Batch) -> SamplingOptions:
        here = list(guides)
        if job.classifier is not None:
            label = batch["label"].to(job.model.device)
            here.append(classifier_guide(job.model.process, job.classifier, label, flags.classifier_scale))
        away = None if negative is None else {"caption": [negative] * len(batch["caption"])}
        return SamplingOptions(negative=away, start=start, strength=strength, tiles=tiles, guides=here)

    return options


def read_flag(job: Job, flag: str) -> Image.Image | None:
    """The picture that a flag names, in the model's channels; None without the flag."""
    path = getattr(job.flags, flag, None)
    return None if path is None else read_picture(path, job.model.first_stage.image_channels)


def in_proportion(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The middle of a picture, of the proportions of a size (height and width) and no larger: samples are reduced to it evenly."""
    share = min(1.0, picture.height / size[0], picture.width / size[1])
    return cover(picture, max(1, round(share * size[0])), max(1, round(share * size[1])))


def start_image(job: Job, size: tuple[int, int]) -> Tensor | None:
    """The image of `--init` at the size of the samples, `(1, C, H, W)`.

    Raises:
        UserError: a strength out of range.
    """
    picture = read_flag(job, "init")
    if picture is None:
        return None
    if not 0.0 < job.flags.strength <= 1.0:
        raise UserError(f"--strength {job.flags.strength}: expected more than 0 and at most 1")
    return to_tensor(cover(picture, *size))[None]


def image_guide(job: Job, target: Tensor, tiles: Tiles | None = None) -> Guide:
    """The guide of `--guider` and `--guide-scale` towards targets `(B or 1, C, h, w)`, to which samples are reduced.

    Raises:
        MissingFile: the weights of LPIPS are missing.
        UserError: a negative scale, or a target too small for LPIPS.
    """
    flags, model = job.flags, job.model
    if flags.guide_scale < 0:
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
    return lambda denoise: image_guided(denoise, lambda z: model.decode(z, tiles), log_p, flags.guide_scale, model.process)


def classifier_guide(process: Process, classifier: NoisyClassifier, label: Tensor, scale: float) -> Guide:
    """Classifier guidance towards labels `(B,)`."""

    def log_p(z_t: Tensor, t: Tensor) -> Tensor:
        logits = classifier(process.scale_input(z_t, t), process.network_time(t))
        return logits.float().log_softmax(dim=1).gather(1, label[:, None])[:, 0]  # type: ignore[no-any-return]

    return lambda denoise: classifier_guided(denoise, log_p, scale, process)


def check_latent(job: Job, classifier: NoisyClassifier, size: tuple[int, int]) -> None:
    """Check that a classifier takes latents of this size.

    Raises:
        UserError: it was built for another.
    """
    side = classifier.size * job.model.first_stage.factor
    if size != (side, side):
        raise UserError(f"--classifier: it was built for images of {side}x{side}, not {size[0]}x{size[1]}")
