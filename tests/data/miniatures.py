"""Data sets of a few pictures in the layouts in which people get the real ones."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 60, 40


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """Smooth noise, so that JPEG keeps it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BILINEAR).save(path)


def quadrants(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT), classes: tuple[int, ...] = (0, 1, 2, 255)) -> None:
    """A label map: top left, top right, bottom left, bottom right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    corner = np.array(classes, dtype=np.uint8).reshape(2, 2)
    Image.fromarray(corner).resize(size, Image.Resampling.NEAREST).save(path)


def coco(root: Path, n: int = 4) -> None:
    """Image i has i + 1 boxes of things, one of stuff, one of "other" and one that is too small; the last has no picture."""
    for part, count in (("train2017", n), ("val2017", 2)):
        images = [{"id": 10 + i, "file_name": f"{i:012}.jpg", "width": WIDTH, "height": HEIGHT} for i in range(count + 1)]
        for i in range(count):
            picture(root / part / f"{i:012}.jpg", i)
            quadrants(root / "stuffthingmaps" / part / f"{i:012}.png", classes=(0, 90, 181, 255))
        things = [
            {"id": 100 * i + k, "image_id": 10 + i, "category_id": 1 + 17 * (k % 2), "bbox": [6 * k, 4, 12, 20], "iscrowd": int(k == 1)}
            for i in range(count)
            for k in range(i + 1)
        ]
        things.append({"id": 9000, "image_id": 10, "category_id": 1, "bbox": [1, 1, 0.01, 0.01], "iscrowd": 0})
        things.append({"id": 9001, "image_id": 10, "category_id": 1, "bbox": [1, 1], "iscrowd": 0})
        stuff = [{"id": 500 + i, "image_id": 10 + i, "category_id": 92, "bbox": [0, 20, 60, 20], "iscrowd": 0} for i in range(count)]
        stuff += [{"id": 600 + i, "image_id": 10 + i, "category_id": 183, "bbox": [0, 0, 60, 20], "iscrowd": 0} for i in range(count)]
        captions = [{"image_id": 10 + i, "id": i, "caption": f"picture {i}, words {k} "} for i in range(count) for k in range(5)]
        names = {"things": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}], "stuff": [{"id": 92, "name": "banner"}]}
        names["stuff"].append({"id": 183, "name": "other"})
        (root / "annotations").mkdir(exist_ok=True)
        for kind, rows, categories in (("instances", things, "things"), ("stuff", stuff, "stuff"), ("captions", captions, "")):
            content = {"images": images, "annotations": rows} | ({"categories": names[categories]} if categories else {})
            (root / "annotations" / f"{kind}_{part}.json").write_text(json.dumps(content))


OPENIMAGES_HEADER = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"


def openimages(root: Path) -> None:
    """Two pictures with two boxes each, a picture that is not there, a box outside, one upside down, one that is no number."""
    (root / "train").mkdir(parents=True)
    for i in range(2):
        picture(root / "train" / f"00000000000000{i:02}.jpg", i)
    rows = [
        "0000000000000000,xclick,/m/0bt9lr,1,0.1,0.5,0.2,0.6,0,0,0,0,0",
        "0000000000000000,xclick,/m/01s55n,1,0.5,0.9,0.2,0.9,0,0,1,0,0",
        "0000000000000001,xclick,/m/0bt9lr,1,0.0,1.0,0.0,1.0,0,0,0,0,0",
        "0000000000000001,xclick,/m/01yrx,1,0.25,0.75,0.25,0.75,0,0,0,0,0",
        "0000000000000099,xclick,/m/01yrx,1,0.25,0.75,0.25,0.75,0,0,0,0,0",
        "0000000000000001,xclick,/m/01yrx,1,0.25,1.75,0.25,0.75,0,0,0,0,0",
        "0000000000000001,xclick,/m/01yrx,1,0.75,0.25,0.25,0.75,0,0,0,0,0",
        "0000000000000001,xclick,/m/01yrx,1,a,0.25,0.25,0.75,0,0,0,0,0",
    ]
    (root / "train-annotations-bbox.csv").write_text("\n".join([OPENIMAGES_HEADER, *rows]) + "\n")
    (root / "class-descriptions-boxable.csv").write_text('/m/01s55n,Suitcase\n/m/0bt9lr,Dog\n/m/01yrx,"Cat"\n')


def landscapes(root: Path, n: int = 6, size: tuple[int, int] = (120, 100)) -> None:
    """Pictures and label maps in two folders; the first map is missing."""
    for i in range(n):
        picture(root / "images" / "lake" / f"{i}.jpg", i, size)
        if i:
            quadrants(root / "maps" / "lake" / f"{i}.png", size, (0, 105, 181, 255))


def shard(path: Path, members: dict[str, bytes]) -> None:
    """A tar file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def encoded(seed: int, kind: str = "JPEG") -> bytes:
    """A picture as the bytes of a file."""
    buffer = io.BytesIO()
    coarse = np.random.default_rng(seed).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR).save(buffer, kind)
    return buffer.getvalue()
