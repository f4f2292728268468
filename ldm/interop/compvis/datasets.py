"""Their data classes -> ours."""

from collections.abc import Mapping
from typing import Any

from ldm.errors import UserError
from ldm.interop.compvis.nodes import split
from ldm.interop.settings import Node, Settings

# Data classes that were released: our loader of their layout, the folder of their files, and how they are read.
RELEASED: dict[str, tuple[str, dict[str, Any]]] = {
    "lsun.LSUNChurches": ("LSUN", {"root": "data/lsun/churches", "category": "churches", "flip": 0.5}),
    "lsun.LSUNBedrooms": ("LSUN", {"root": "data/lsun/bedrooms", "category": "bedrooms", "flip": 0.5}),
    "lsun.LSUNCats": ("LSUN", {"root": "data/lsun/cats", "category": "cats", "flip": 0.5}),
    "taming.data.faceshq.FFHQ": ("FFHQ", {"root": "data/ffhq"}),
    "taming.data.faceshq.CelebAHQ": ("CelebAHQ", {"root": "data/celebahq"}),
    "taming.data.imagenet.ImageNet": ("ImageNet", {"root": "data/imagenet", "crop": "random"}),
    "imagenet.ImageNetSR": ("ImageFolder", {"root": "data/imagenet", "held_out": 0.01, "crop": "random"}),
    "imagenet.ImageNet": ("ImageNet", {"root": "data/imagenet", "crop": "random"}),
}
DATA_PARAMETERS = {"size", "config", "degradation", "downscale_f", "min_crop_f", "max_crop_f", "random_crop", "flip_p", "interpolation"}
DATA_PARAMETERS |= {"data_root", "txt_file", "coord", "keep_orig_class_label", "random_flip", "sub_indices", "process_images"}
NEVER_RELEASED = ("ldm.data.openimages.", "ldm.data.faceshq.", "ldm.data.landscapes.", "ldm.data.previews.", "ldm.data.coco.")
# What to write for a class that is not here, and what comes nearest to it, by the beginning of its name.
INSTEAD = (
    "write data.params.train of your own in a second file after --base, such as "
    "{target: ldm.data.ImageFolder, params: {root: FOLDER, size: 256}}"
)
ADVICE = {
    "taming.data.coco.": "ldm.data.Coco reads COCO's own files",
    "taming.data.annotated_objects_coco.": "ldm.data.Coco reads COCO's own files, boxes too",
    "taming.data.annotated_objects_open_images.": "ldm.data.OpenImages reads its own files, boxes too",
    "taming.data.open_images_helper.": "ldm.data.OpenImages reads its own files, boxes too",
    "taming.data.ade20k.": "ldm.data.PairedFolders reads images beside label maps",
    "taming.data.sflckr.": "ldm.data.PairedFolders reads images beside label maps",
    "ldm.data.laion": "ldm.data.WebShards reads shards of image and caption",
    "ldm.data.base.Txt2Img": "ldm.data.AnnotatedFolder reads images with captions from metadata.jsonl",
    "ldm.data.personalized": "ldm.data.AnnotatedFolder reads images with captions from metadata.jsonl",
    "ldm.data.simple.": "ldm.data.AnnotatedFolder reads images with captions from metadata.jsonl",
}


def unavailable(reason: str, size: int) -> Node:
    """Data that is not available: opening it is an error with the reason."""
    return {"target": "ldm.data.Unavailable", "params": {"reason": reason, "size": size}}


def dataset(node: Any, split_name: str) -> Node:
    """One of their data nodes -> ours.

    Raises:
        UserError: an unknown class, or parameter of one; says what to write instead.
    """
    target, params = split(node, f"data.params.{split_name}")
    inner = params.get("config")
    params = {**params, **inner} if isinstance(inner, Mapping) else params
    size = int(params.get("crop_size") or params.get("size") or 256)
    if target.startswith(NEVER_RELEASED):
        return unavailable(
            f"data class {target} was named in this YAML but never released: give data.params.{split_name} of your own", size
        )
    if target.startswith("taming.data.custom.Custom"):
        return _custom(Settings(f"data.params.{split_name}: {target}", params))
    if target.startswith("taming.data.faceshq.FacesHQ"):
        return _faces(Settings(f"data.params.{split_name}: {target}", params), split_name)
    endings = ("Train", "Validation", "Test")
    name = next((name for name in RELEASED if target.removeprefix("ldm.data.") in [name + ending for ending in endings]), None)
    if name is None:
        advice = next((f"{text}: " for start, text in ADVICE.items() if target.startswith(start)), "")
        raise UserError(f"data.params.{split_name}: unknown target {target!r}: {advice}{INSTEAD}")
    if unknown := params.keys() - DATA_PARAMETERS:
        raise UserError(f"data.params.{split_name}: {target}: unknown parameter {', '.join(map(repr, sorted(unknown)))}")
    loader, more = RELEASED[name]
    made = {"size": size, "split": split_name, **more}
    if split_name != "train":
        made = {key: value for key, value in made.items() if key not in ("flip", "crop")}
    return {"target": f"ldm.data.{loader}", "params": made}


def _custom(p: Settings) -> Node:
    """taming's list of one's own images: paths, absolute or from the working directory."""
    names = [name for key in ("training_images_list_file", "test_images_list_file") if (name := p.take(key)) is not None]
    if len(names) != 1:
        raise UserError(f"{p.where}: needs training_images_list_file or test_images_list_file, a file with one path a line")
    made = {"root": None, "names": names[0], "size": int(p.require("size"))}
    p.done()
    return {"target": "ldm.data.ListedImages", "params": made}


def _faces(p: Settings, split_name: str) -> Node:
    """taming's CelebA-HQ and FFHQ together, cropped at random if a crop is requested."""
    size, crop = int(p.require("size")), p.take("crop_size")
    p.expect("coord", False, None)
    p.ignore("keys")
    p.done()
    shared: Node = {"split": split_name, "size": size} if crop is None else {"split": split_name, "resize": size, "size": int(crop)}
    if crop is not None and split_name == "train":
        shared["crop"] = "random"
    sets = [
        {
            "target": f"ldm.data.{RELEASED[f'taming.data.faceshq.{name}'][0]}",
            "params": {**RELEASED[f"taming.data.faceshq.{name}"][1], **shared},
        }
        for name in ("CelebAHQ", "FFHQ")
    ]
    return {"target": "ldm.data.Mixed", "params": {"sets": sets}}
