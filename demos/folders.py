"""Bare folders as people have them, cut from the photographs and digits that packages ship and from procedural scenes.

python -m demos.folders photographs my/photos
"""

import argparse
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ldm.data.batch import Sample
from ldm.data.images import to_pixels
from ldm.data.resize import resize
from ldm.data.sources.digits import Digits
from ldm.data.sources.photographs import originals
from ldm.data.sources.scenes import Scenes


def photographs(folder: Path, count: int = 400, height: int = 128, width: int = 128, kind: str = "jpg") -> None:
    """Crops of the photographs, reduced, at random places."""
    rng, pictures = np.random.default_rng(0), [pixels for _, pixels in originals()]
    for i in range(count):
        pixels = pictures[i % len(pictures)]
        scale = rng.uniform(1.0, min(pixels.shape[0] / height, pixels.shape[1] / width, 3.0))
        h, w = int(height * scale), int(width * scale)
        top, left = (int(rng.integers(0, side - part + 1)) for side, part in zip(pixels.shape, (h, w), strict=False))
        crop = resize(pixels[top : top + h, left : left + w].astype(np.float32), (height, width), "area")
        save(folder / f"photo-{i:04d}.{kind}", np.round(crop).astype(np.uint8))


def classes(folder: Path, count: int = 1000) -> None:
    """Digits, a subfolder per class."""
    digits = Digits(split="train")
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    for i in range(count):
        sample = digits[i % len(digits)]
        save(folder / names[sample["label"]] / f"{i:04d}.png", to_pixels(sample["image"]).squeeze())


def sidecars(folder: Path, count: int = 400) -> None:
    """Scenes with a text file beside each."""
    for sample, name in scenes(folder, count, ["caption"]):
        (folder / f"{name}.txt").write_text(sample["caption"] + "\n", encoding="utf-8")


def captions_table(folder: Path, count: int = 400) -> None:
    """Scenes with `metadata.csv`."""
    rows = [(f"{name}.png", sample["caption"]) for sample, name in scenes(folder, count, ["caption"])]
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file_name", "text"), *rows])


def captions_lines(folder: Path, count: int = 400) -> None:
    """Scenes with `metadata.jsonl`, two captions each."""
    lines(folder, count, ["caption"], lambda sample: {"caption": [sample["caption"], sample["caption"].removeprefix("a ")]})


def boxes(folder: Path, count: int = 400) -> None:
    """Scenes with the boxes of their objects in `metadata.jsonl`."""

    def listed(sample: Sample) -> dict[str, object]:
        pairs = zip(sample["box_labels"].tolist(), sample["boxes"].tolist(), strict=True)
        return {"boxes": [{"label": label, "box": box} for label, box in pairs]}

    lines(folder, count, ["boxes"], listed)


def numbers(folder: Path, count: int = 400) -> None:
    """Scenes with a number each, their mean brightness, in `metadata.jsonl`."""
    lines(folder, count, [], lambda sample: {"brightness": round(float(sample["image"].mean()), 4)})


def maps(folder: Path, count: int = 400) -> None:
    """Scenes in `images` and their label maps in `labels`."""
    for sample, name in scenes(folder / "images", count, ["segmentation"]):
        save(folder / "labels" / f"{name}.png", sample["segmentation"].numpy().astype(np.uint8))


def masks(folder: Path, count: int = 400) -> None:
    """Photographs in `images` and masks of what is to be filled in `masks`."""
    photographs(folder / "images", count)
    rng = np.random.default_rng(1)
    for path in sorted((folder / "images").iterdir()):
        mask, (top, left) = np.zeros((128, 128), np.uint8), rng.integers(8, 64, 2)
        mask[top : top + 48, left : left + 48] = 255
        save(folder / "masks" / f"{path.stem}.png", mask)


def pairs(folder: Path, count: int = 400) -> None:
    """Photographs in `high` and their reductions by four in `low`."""
    photographs(folder / "high", count, kind="png")
    for path in sorted((folder / "high").iterdir()):
        low = resize(np.asarray(Image.open(path), dtype=np.float32), (32, 32), "area")
        save(folder / "low" / path.name, np.round(low).astype(np.uint8))


def wide(folder: Path, count: int = 400) -> None:
    """Photographs three halves as wide as high."""
    photographs(folder, count, 96, 144)


def grey(folder: Path, count: int = 400) -> None:
    """Grey photographs."""
    photographs(folder, count, kind="png")
    for path in folder.iterdir():
        Image.open(path).convert("L").save(path)


def deep(folder: Path, count: int = 400) -> None:
    """Grey photographs of 16 bit."""
    grey(folder, count)
    for path in folder.iterdir():
        save(path, np.asarray(Image.open(path), dtype=np.uint16) * np.uint16(257))


def transparent(folder: Path, count: int = 400) -> None:
    """Scenes whose background is transparent."""
    for sample, name in scenes(folder, count, ["segmentation"]):
        alpha = np.where(sample["segmentation"].numpy() > 0, 255, 0).astype(np.uint8)
        save(folder / f"{name}.png", np.dstack([to_pixels(sample["image"]), alpha]))


def arrays(folder: Path, count: int = 400) -> None:
    """Arrays of five channels in [0, 1]: a scene's colours, its brightness, and where its objects are."""
    for sample, name in scenes(folder, count, ["segmentation"], keep=False):
        colours = (sample["image"].numpy() + 1) / 2
        layers = [*colours, colours.mean(0), (sample["segmentation"].numpy() > 0).astype(np.float32)]
        np.save(folder / f"{name}.npy", np.stack(layers).astype(np.float32))


FOLDERS: dict[str, Callable[[Path, int], None]] = {
    "photographs": photographs,
    "classes": classes,
    "sidecars": sidecars,
    "captions-csv": captions_table,
    "captions-jsonl": captions_lines,
    "boxes": boxes,
    "numbers": numbers,
    "maps": maps,
    "masks": masks,
    "pairs": pairs,
    "wide": wide,
    "grey": grey,
    "16-bit": deep,
    "transparent": transparent,
    "arrays": arrays,
}


def scenes(folder: Path, count: int, give: list[Any], keep: bool = True) -> list[tuple[Sample, str]]:
    """Scenes of 64x64 pixels, written into a folder as PNG if `keep`, with their names."""
    folder.mkdir(parents=True, exist_ok=True)
    data = Scenes(count, size=64, split="train", give=give)
    named = [(data[i], f"scene-{i:04d}") for i in range(count)]
    for sample, name in named:
        if keep:
            save(folder / f"{name}.png", to_pixels(sample["image"]))
    return named


def lines(folder: Path, count: int, give: list[Any], columns: Callable[[Sample], dict[str, object]]) -> None:
    """Scenes with `metadata.jsonl`."""
    text = [json.dumps({"file_name": f"{name}.png", **columns(sample)}) for sample, name in scenes(folder, count, give)]
    (folder / "metadata.jsonl").write_text("\n".join(text) + "\n", encoding="utf-8")


def save(path: Path, pixels: np.ndarray) -> None:
    """An image file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def main() -> None:
    """Write one of the folders."""
    parser = argparse.ArgumentParser(prog="python -m demos.folders", description="Write a bare folder to try scripts/new.py on.")
    parser.add_argument("kind", choices=FOLDERS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=400, help="number of images (default: 400)")
    flags = parser.parse_args()
    FOLDERS[flags.kind](flags.folder, flags.count)


if __name__ == "__main__":
    main()
