"""Layouts: labelled boxes from JSON as conditions."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ldm.cli.condition_flags import Condition
from ldm.data.classes import Classes
from ldm.errors import MissingFile, UserError
from ldm.evaluation.draw import draw_boxes
from ldm.system.files import read_json

FORMAT = '{"boxes": [{"label": ..., "box": [x0, y0, x1, y1]}]}, with corners as fractions of width and height'


def read_given(path: str) -> Any:
    """Any JSON file of the command line.

    Raises:
        MissingFile: no such file.
        UserError: not JSON.
    """
    if not Path(path).is_file():
        raise MissingFile(f"{path}: no such file")
    return read_json(Path(path))


def read_names(path: str | None) -> dict[str, int]:
    """Class names -> indices, from a JSON object {"name": index} or a JSON list of names in the order of their indices.

    Raises:
        MissingFile, UserError: no such file, or something else in it.
    """
    if path is None:
        return {}
    found = read_given(path)
    if isinstance(found, list) and all(isinstance(name, str) for name in found):
        return {name: i for i, name in enumerate(found)}
    if isinstance(found, dict) and all(type(i) is int for i in found.values()):
        return found
    raise UserError(f'{path}: expected {{"name": index, ...}} or ["name", ...]')


def read_layouts(path: str, classes: Classes, most: int) -> list[list[dict[str, Any]]]:
    """Boxes of each layout in a file: {"label": name or index, "index": int, "box": [x0, y0, x1, y1]}.

    Args:
        path: JSON of one layout or a list of layouts.
        classes: of the model.
        most: maximum number of boxes.

    Raises:
        MissingFile, UserError: names the layout and the box.
    """
    content = read_given(path)
    layouts = content if isinstance(content, list) else [content]
    if not layouts:
        raise UserError(f"{path}: an empty list; expected {FORMAT}")
    return [checked_boxes(boxes, f"{path}: layout {i}", classes, most) for i, boxes in enumerate(layouts)]


def checked_boxes(content: Any, where: str, classes: Classes, most: int) -> list[dict[str, Any]]:
    """Boxes of one layout, as `read_layouts` returns them; `where` names it in messages.

    Raises:
        UserError: names the box.
    """
    boxes = content.get("boxes") if isinstance(content, dict) else None
    if not isinstance(boxes, list):
        raise UserError(f"{where}: expected {FORMAT}")
    if len(boxes) > most:
        raise UserError(f"{where}: {len(boxes)} boxes, the model has places for {most}")
    return [_read_box(box, f"{where}, box {i}", classes) for i, box in enumerate(boxes)]


def _read_box(entry: Any, where: str, classes: Classes) -> dict[str, Any]:
    if not isinstance(entry, dict) or "label" not in entry or "box" not in entry:
        raise UserError(f'{where}: expected {{"label": ..., "box": [x0, y0, x1, y1]}}')
    label, box = entry["label"], entry["box"]
    try:
        index = classes.index(label)
    except ValueError as error:
        advice = "" if classes.names or not isinstance(label, str) else "; the run has no names: give them with --names FILE, or numbers"
        raise UserError(f"{where}: label {label!r}: {error}{advice}") from error
    if not (isinstance(box, list) and len(box) == 4 and all(isinstance(v, int | float) and not isinstance(v, bool) for v in box)):
        raise UserError(f"{where}: box {box!r}: expected [x0, y0, x1, y1]")
    if not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
        raise UserError(f"{where}: box {box}: expected 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1")
    return {"label": label, "index": index, "box": [float(v) for v in box]}


def layout(boxes: list[dict[str, Any]], height: int, width: int, classes: Classes) -> Condition:
    """A layout as the condition of one image; its picture shows the boxes on white, with the names of their classes."""
    entries = {
        "boxes": torch.tensor([box["box"] for box in boxes], dtype=torch.float32).reshape(-1, 4),
        "box_labels": torch.tensor([box["index"] for box in boxes], dtype=torch.int64),
    }
    names = {box["index"]: classes.names.get(box["index"], str(box["label"])) for box in boxes}
    listed = [names.get(i, "") for i in range(max(names, default=-1) + 1)]
    picture = draw_boxes(Image.new("RGB", (width, height), "white"), entries["boxes"], entries["box_labels"], {"boxes": listed})
    return Condition(entries, {"boxes": boxes}, picture)
