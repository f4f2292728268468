"""Data sets: every one yields samples as `ldm.data.batch` describes them."""

from ldm.data.digits import Digits
from ldm.data.folder import ImageFolder
from ldm.data.order import StepBatches
from ldm.data.scenes import Scenes
from ldm.data.tasks import Inpainting, SuperResolution
from ldm.data.unavailable import Unavailable

__all__ = ["Digits", "ImageFolder", "Inpainting", "Scenes", "StepBatches", "SuperResolution", "Unavailable"]
