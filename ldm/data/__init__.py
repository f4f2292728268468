"""Data sets, whose samples have the keys of `ldm.data.batch`."""

from ldm.data.order import StepBatches
from ldm.data.sources.annotated_folder import AnnotatedFolder, ArrayFolder, PairedFolders
from ldm.data.sources.coco import Coco
from ldm.data.sources.digits import Digits
from ldm.data.sources.downloads import FFHQ, LSUN, CelebAHQ, ListedImages, Places
from ldm.data.sources.folder import ImageFolder
from ldm.data.sources.imagenet import ImageNet
from ldm.data.sources.lmdb import LSUNDatabase
from ldm.data.sources.mixed import Mixed
from ldm.data.sources.openimages import OpenImages
from ldm.data.sources.photographs import Photographs
from ldm.data.sources.resolutions import PairedResolutions
from ldm.data.sources.scenes import Scenes
from ldm.data.sources.shards import WebShards
from ldm.data.sources.tasks import Inpainting, SuperResolution
from ldm.data.sources.unavailable import Unavailable

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
    "PairedResolutions",
    "Photographs",
    "Places",
    "Scenes",
    "StepBatches",
    "SuperResolution",
    "Unavailable",
    "WebShards",
]
