"""`metadata.jsonl`: one line per image with its caption, class, boxes, label map and mask."""

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ldm.data.annotated import Record
from ldm.data.batch import MOST_CLASSES
from ldm.data.reading import is_text, read_text, shown

KEYS = ("file_name", "caption", "label", "boxes", "segmentation", "mask")
EDGE = 1e-6  # by which a box may leave the picture through rounding


class BadLine(ValueError):
    """A line that cannot be used; the message says why."""


def read_metadata(path: Path, give: Collection[str], classes: Mapping[str, int]) -> tuple[list[Record], list[str]]:
    """The usable lines of a file as records, and what is wrong with the others as "file:line: reason".

    Paths in a line are relative to the file. A file that is named again gets an id that ends with the line's number.

    Args:
        give: keys that every line must have; the others are not looked at.
        classes: numbers of classes by key ("label", "boxes"); unchecked where there is none.

    Raises:
        UserError: not UTF-8 text.
    """
    records: list[Record] = []
    broken: list[str] = []
    seen: set[str] = set()
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = parse(line, path.parent, give, classes)
        except BadLine as error:
            broken.append(f"{path}:{number}: {error}")
            continue
        name = f"{record.name}#{number}" if record.name in seen else record.name
        records.append(replace(record, name=name, file=record.name, origin=f"{path}:{number}"))
        seen.add(name)
    return records, broken


def parse(line: str, root: Path, give: Collection[str], classes: Mapping[str, int]) -> Record:
    """One line.

    Raises:
        BadLine: says what was expected.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadLine(f"not JSON ({error})") from error
    if not isinstance(row, dict):
        raise BadLine(f"expected an object, got {type(row).__name__}")
    for key in ("file_name", *give):
        if row.get(key) is None:
            raise BadLine(f"has no {key!r}")
    boxes, box_labels = parse_boxes(row["boxes"], classes.get("boxes")) if "boxes" in give else (np.zeros((0, 4)), np.zeros(0, np.int64))
    return Record(
        name=PurePosixPath(_text(row, "file_name")).as_posix(),
        path=_file(row, "file_name", root),
        label=_class(row["label"], "label", classes.get("label")) if "label" in give else None,
        captions=(_text(row, "caption"),) if "caption" in give else (),
        boxes=boxes,
        box_labels=box_labels,
        segmentation=_file(row, "segmentation", root) if "segmentation" in give else None,
        mask=_file(row, "mask", root) if "mask" in give else None,
    )


def parse_boxes(value: Any, classes: int | None) -> tuple[np.ndarray, np.ndarray]:
    """`[{"label": int, "box": [x0, y0, x1, y1]}, ...]` -> boxes `(n, 4)` in [0, 1] and labels `(n,)`.

    Raises:
        BadLine: names the box and what was expected.
    """
    if not isinstance(value, list):
        raise BadLine(f"boxes: expected a list, got {value!r}")
    boxes, labels = [], []
    for i, entry in enumerate(value):
        box = entry.get("box") if isinstance(entry, dict) else None
        if not isinstance(box, list) or len(box) != 4 or not all(_number(v) for v in box):
            raise BadLine(f'boxes[{i}]: expected {{"label": ..., "box": [x0, y0, x1, y1]}}, got {entry!r}')
        if not all(-EDGE <= v <= 1 + EDGE for v in box):
            raise BadLine(f"boxes[{i}]: {box} leaves the picture: expected fractions of width and height, 0 to 1")
        if not (box[0] < box[2] and box[1] < box[3]):
            raise BadLine(f"boxes[{i}]: {box} is upside down or empty: expected x0 < x1 and y0 < y1")
        boxes.append(box)
        labels.append(_class(entry.get("label"), f"boxes[{i}].label", classes))
    return np.array(boxes, dtype=np.float64).reshape(-1, 4).clip(0, 1), np.array(labels, dtype=np.int64)


def _number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) or isinstance(value, float) and math.isfinite(value)


def _class(value: Any, key: str, classes: int | None) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < (MOST_CLASSES if classes is None else classes):
        expected = "a class index" if classes is None else f"0 to {classes - 1}"
        raise BadLine(f"{key}: expected {expected}, got {value!r}")
    return value


def _text(row: Mapping[str, Any], key: str) -> str:
    if not isinstance(row[key], str) or (key != "caption" and not row[key]):
        raise BadLine(f"{key}: expected a string, got {row[key]!r}")
    if key == "caption" and not is_text(row[key]):  # an escaped half of a character
        raise BadLine(f"caption: {row[key][:200]!r} is not UTF-8 text")
    return str(row[key])


def _file(row: Mapping[str, Any], key: str, root: Path) -> Path:
    path = root / _text(row, key)
    try:
        str(path).encode()  # what is not UTF-8, no report could show
        there = path.is_file()
    except (ValueError, OSError):  # too long for a name
        there = False
    if not there:
        raise BadLine(f"{key}: no such file: {shown(row[key][:200])}")
    return path
