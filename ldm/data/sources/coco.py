"""COCO as downloaded: `train2017/`, `annotations/*.json` and, for label maps, `stuffthingmaps/`."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ldm.data.annotated import Annotated, Annotation, Give
from ldm.data.boxtable import BoxTable
from ldm.data.files import first_of, is_text, require
from ldm.data.listing import Listing
from ldm.data.transforms import Crop, Size
from ldm.errors import UserError
from ldm.ranges import share, span
from ldm.system.files import read_json
from ldm.system.terminal import printable

SIZES = {"id": 0, "width": 1, "height": 1}  # keys of an image and their minimum values
STUFF_CLASSES = 182  # of the label maps of COCO-Stuff: things 0 to 90, stuff 91 to 181


class Coco(Annotated):
    """Images of COCO with boxes, captions or label maps.

    The folder contains `train2017/*.jpg`, `annotations/{instances,captions,stuff}_train2017.json` (those that `give` needs, and
    always one of the first two) and `stuffthingmaps/train2017/*.png` (COCO-Stuff's maps: 182 classes, 255 unlabelled); the same
    with val2017. Box classes are the ranks of the category numbers, things before stuff (80 + 91; "other" is left out, as in
    taming-transformers, whose filters these are, too). Invalid entries are skipped and listed in `broken`.

    Args:
        root: the folder.
        size, resize, crop, flip, min_box: see `ldm.data.annotated.Annotated`.
        give: "caption" (one of five, drawn anew each time), "boxes", "segmentation".
        split: "train" or "validation".
        year: 2017 or 2014.
        stuff: include boxes of stuff beside those of things.
        groups: boxes around crowds have their own classes after the others: class + number of classes.
        min_area: smaller boxes are dropped (share of the image).
        objects: minimum and maximum number of boxes; images with fewer or more are skipped. Applies if boxes are given.

    Raises:
        MissingFile: names the missing file or folder.
        UserError: annotations that are not COCO's, or no valid image.
    """

    shuffled_boxes = True

    def __init__(
        self,
        root: str,
        size: Size,
        give: Sequence[Give] = ("boxes",),
        split: Literal["train", "validation"] = "train",
        resize: int | None = None,
        crop: Crop = "center",
        flip: float = 0.0,
        year: Literal[2014, 2017] = 2017,
        stuff: bool = True,
        groups: bool = False,
        min_area: float = 1e-5,
        objects: tuple[int, int] = (0, 100000),
        min_box: float = 0.0,
    ) -> None:
        share(min_area=min_area)
        span(objects=objects)
        super().__init__(f"COCO in {root!r}", give, size, resize, crop, flip, min_box=min_box, map_classes=STUFF_CLASSES)
        if other := set(self.give) & {"label", "mask"}:
            raise UserError(f"{self.what}: has no {min(other)!r} (it can give caption, boxes, segmentation)")
        self.root, self.name = require(Path(root), "COCO"), ("train" if split == "train" else "val") + str(year)
        self.folder = require(self.root / self.name, "images of COCO")
        boxes, captions = "boxes" in self.give, "caption" in self.give
        files = [self._load("instances")] if boxes or not captions else []
        files += [self._load("stuff")] if boxes and stuff else []
        sentences = self._load("captions") if captions else None
        self.images: list[dict[str, Any]] = [*self._images(files[0] if files else sentences)]
        self._number = {image["id"]: i for i, image in enumerate(self.images)}
        self._captions: dict[int, list[str]] = self._read_captions(sentences) if sentences is not None else {}
        self.boxes = BoxTable()
        if boxes:
            self._read_boxes(files, groups, min_area)
        self.boxes.sort(len(self.images))
        self.chosen = self._choose(objects)
        self.report_found(len(self.chosen), len(self.images))

    def _load(self, kind: str) -> tuple[Path, dict[str, Any]]:
        path = require(self.root / "annotations" / f"{kind}_{self.name}.json", "annotations of COCO")
        content = read_json(path)
        keys = ("images", "annotations") if kind == "captions" else ("images", "annotations", "categories")
        for key in keys:
            entries = content.get(key) if isinstance(content, dict) else None
            if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
                raise UserError(f"{path}: has no list of objects {key!r}: expected COCO's {kind} annotations")
        return path, content

    def _images(self, file: Any) -> Iterable[dict[str, Any]]:
        """Entries whose image exists, in the order of their names, each once."""
        path, content = file
        seen: set[int | str] = set()
        files = Listing(self.folder, self.broken).files
        for image in sorted(content["images"], key=lambda image: str(image.get("file_name"))):
            name, sizes = image.get("file_name"), all(isinstance(image.get(k), int) and image[k] >= least for k, least in SIZES.items())
            if not sizes or not isinstance(name, str):
                self.broken.append(f"{path}: image {image.get('id')!r}: expected id, file_name, width and height")
            elif name not in files:
                self.broken.append(f"{path}: image {image['id']}: no {printable(name)} in {self.folder}")
            elif image["id"] in seen or name in seen:
                self.broken.append(f"{path}: image {image['id']}: a second one of this {'id' if image['id'] in seen else f'file, {name}'}")
            else:
                seen |= {image["id"], name}
                yield {key: image[key] for key in ("id", "file_name", "width", "height")}

    def _read_captions(self, file: tuple[Path, dict[str, Any]]) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for entry in file[1]["annotations"]:
            image, caption = entry.get("image_id"), entry.get("caption")
            if not isinstance(image, int) or not isinstance(caption, str) or not is_text(caption):
                self.broken.append(f"{file[0]}: annotation {entry.get('id')!r}: expected an image_id and a caption in UTF-8")
            elif image in self._number:
                found.setdefault(image, []).append(caption.strip())
        return found

    def _read_boxes(self, files: list[tuple[Path, dict[str, Any]]], groups: bool, min_area: float) -> None:
        for path, content in files:
            if unnamed := [c for c in content["categories"] if not isinstance(c.get("id"), int) or not isinstance(c.get("name"), str)]:
                raise UserError(f"{path}: categories: expected id and name, got {unnamed[0]!r}")
        names = {c["id"]: c["name"] for _, content in files for c in content["categories"] if c["name"] != "other"}
        rank = {category: i for i, category in enumerate(sorted(names))}
        self.class_names["boxes"] = [names[category] for category in rank] + [f"{names[c]} (group)" for c in rank if groups]
        unknown = {c["id"] for _, content in files for c in content["categories"]} - rank.keys()  # "other"
        for path, content in files:
            for entry in content["annotations"]:
                try:
                    image, category = entry.get("image_id"), entry.get("category_id")
                    if image not in self._number or category in unknown:
                        continue  # of a missing image, which was counted
                    box = fractions(entry["bbox"], self.images[self._number[image]])
                    label = rank[category] + len(rank) * int(groups and bool(entry.get("iscrowd")))
                except (KeyError, TypeError, ValueError, OverflowError) as error:
                    self.broken.append(f"{path}: annotation {entry.get('id')}: expected a bbox and a known category ({error})")
                    continue
                if (box[2] - box[0]) * (box[3] - box[1]) > min_area:
                    self.boxes.add(self._number[image], label, box)

    def _choose(self, objects: tuple[int, int]) -> np.ndarray:
        """Indices of the images that have everything requested."""
        keep = np.ones(len(self.images), dtype=bool)
        if "boxes" in self.give:
            counts = self.boxes.counts()
            keep &= (counts >= objects[0]) & (counts <= objects[1])
        if "caption" in self.give:
            keep &= np.array([image["id"] in self._captions for image in self.images], dtype=bool)
            self.broken += [f"{self.folder / image['file_name']}: no caption" for image in self.images if image["id"] not in self._captions]
        if "segmentation" in self.give:
            self.maps = first_of(self.root / "stuffthingmaps", [self.name, "."], "label maps of COCO-Stuff")
            label_maps = Listing(self.maps, self.broken).files
            for i, image in enumerate(self.images):
                if f"{Path(image['file_name']).stem}.png" not in label_maps:
                    keep[i] = False
                    self.broken.append(f"{self.folder / image['file_name']}: no label map in {self.maps}")
        return np.flatnonzero(keep)

    def __len__(self) -> int:
        return len(self.chosen)

    def record(self, index: int) -> Annotation:
        number = int(self.chosen[index])
        image = self.images[number]
        boxes, labels = self.boxes.of(number)
        label_map = self.maps / f"{Path(image['file_name']).stem}.png" if "segmentation" in self.give else None
        captions = self._captions.get(image["id"], ())
        path = self.folder / image["file_name"]
        return Annotation(image["file_name"], path, captions=captions, boxes=boxes, box_labels=labels, segmentation=label_map)


def fractions(bbox: Any, image: dict[str, Any]) -> tuple[float, float, float, float]:
    """COCO's [x, y, width, height] in pixels -> xyxy as fractions, clipped to the image.

    Raises:
        TypeError, ValueError, OverflowError: not four numbers, a negative size, or nothing of it inside the image.
    """
    if not isinstance(bbox, list):
        raise TypeError(f"bbox is {type(bbox).__name__}, no list")
    x, y, w, h = (float(v) for v in bbox)
    width, height = float(image["width"]), float(image["height"])
    if not (w >= 0 and h >= 0):
        raise ValueError(f"a box of {w:g}x{h:g} pixels")
    if not (math.isfinite(x + y + w + h) and x < width and y < height and (x >= 0 or x + w > 0) and (y >= 0 or y + h > 0)):
        raise ValueError(f"the box {bbox} is outside the image of {width:g}x{height:g} pixels")
    x0, x1 = (min(max(v / width, 0.0), 1.0) for v in (x, x + w))
    y0, y1 = (min(max(v / height, 0.0), 1.0) for v in (y, y + h))
    return x0, y0, x1, y1
