"""Data sets: every one yields samples as `ldm.data.batch` describes them."""

from ldm.data.coco import Coco
from ldm.data.database import LSUNDatabase
from ldm.data.digits import Digits
from ldm.data.folder import ImageFolder
from ldm.data.folders import AnnotatedFolder, ArrayFolder, PairedFolders
from ldm.data.imagenet import ImageNet
from ldm.data.listed import FFHQ, LSUN, CelebAHQ, ListedImages, Places
from ldm.data.mixed import Mixed
from ldm.data.openimages import OpenImages
from ldm.data.order import StepBatches
from ldm.data.photographs import Photographs
from ldm.data.scenes import Scenes
from ldm.data.tasks import Inpainting, SuperResolution
from ldm.data.unavailable import Unavailable
from ldm.data.webshards import WebShards

__all__ = [
    "FFHQ",
    "LSUN",
    "AnnotatedFolder",
    "ArrayFolder",
    "CelebAHQ",
    "Coco",
    "Digits",
    "ImageFolder",
    "ImageNet",
    "Inpainting",
    "LSUNDatabase",
    "ListedImages",
    "Mixed",
    "OpenImages",
    "PairedFolders",
    "Photographs",
    "Places",
    "Scenes",
    "StepBatches",
    "SuperResolution",
    "Unavailable",
    "WebShards",
]
