"""`metadata.jsonl` and `metadata.csv`: one line per image with its caption, class, boxes, label map and mask."""

import csv
import json
import math
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from ldm.data.annotated import NO_BOXES, NO_LABELS, Annotation, Give
from ldm.data.batch import MOST_CLASSES
from ldm.data.captions import CAPTION, BadLine, captions
from ldm.data.files import read_text
from ldm.data.listing import Listing, NoSuchName
from ldm.errors import UserError
from ldm.system.terminal import printable

EDGE = 1e-6  # tolerance for boxes that leave the image by rounding
JSON_CELLS = ("label", "boxes", "box_labels")  # columns of a .csv whose cells are not text
Row = dict[str, Any]


def read_metadata(
    listing: Listing, files: Iterable[str], give: Collection[str], classes: Mapping[str, int], texts: Collection[str] = ()
) -> list[Annotation]:
    """The valid lines of metadata files; the others are added to the listing's `broken` as "file:line: reason".

    Paths in a line are relative to the file, or absolute, and inside the folder, see `ldm.data.listing.Listing.find`. If a file is named
    again, the line number is appended to its id.

    Args:
        listing: the folder that contains the files.
        files: names in the listing: .csv, or else JSON lines.
        give: keys that every line must have; others are ignored.
        classes: number of classes by key ("label", "boxes"); unchecked if missing.
        texts: other keys whose cells in a .csv are text, even those that look like numbers.

    Raises:
        UserError: a file that is not text, or not a table.
    """
    numeric = {*JSON_CELLS, *(key for key in give if key not in get_args(Give) and key not in texts)}
    records: list[Annotation] = []
    names: set[str] = set()
    for file in files:
        path, (folder, _, _) = listing.root / file, file.rpartition("/")
        for number, row in read_rows(path, numeric):
            try:
                if isinstance(row, BadLine):
                    raise row
                record = parse(row, listing, folder, give, classes)
            except BadLine as error:
                listing.broken.append(f"{path}:{number}: {error}")
                continue
            again = f"{record.name}#{folder}/{number}" if folder else f"{record.name}#{number}"
            name = again if record.name in names else record.name
            records.append(replace(record, name=name, file=record.name, origin=f"{path}:{number}"))
            names.add(name)
    return records


def read_rows(path: Path, numeric: Collection[str] = JSON_CELLS, images: bool = True) -> Iterator[tuple[int, Row | BadLine]]:
    """Line numbers and content of the lines of a file: the cells of a .csv by column, else JSON objects.

    Args:
        path: path of the file.
        numeric: columns of a .csv whose cells are JSON if they are valid JSON; others are text.
        images: whether a .csv must have a column `file_name`.

    Raises:
        UserError: not text, or not a table.
    """
    text = read_text(path)
    if path.suffix.lower() == ".csv":
        yield from _read_table(path, text, numeric, images)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, _object(line)


def _object(line: str) -> Row | BadLine:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return BadLine(f"not JSON ({error})")
    return row if isinstance(row, dict) else BadLine(f"expected an object, got {type(row).__name__}")


def _read_table(path: Path, text: str, numeric: Collection[str], images: bool) -> Iterator[tuple[int, Row | BadLine]]:
    rows = _split_table(text)
    number, first = next(rows)
    if isinstance(first, BadLine):
        raise UserError(f"{path}:{number}: {first}")
    head = [name.strip() for name in first]
    if images and "file_name" not in head:
        raise UserError(f"{path}: no column 'file_name' in its first line, separated by commas (it has {', '.join(map(repr, head))})")
    for number, cells in rows:
        if isinstance(cells, BadLine):
            yield number, cells
        elif not any(cell.strip() for cell in cells):
            continue  # separators only, as at the end of exported spreadsheets
        elif len(cells) != len(head):
            yield number, BadLine(f"not as many cells as the first line's {len(head)}: put quotes around text with a comma")
        else:
            yield number, {key: _value(cell, key in numeric, key in CAPTION) for key, cell in zip(head, cells, strict=True)}


def _split_table(text: str) -> Iterator[tuple[int, list[str] | BadLine]]:
    """Line numbers and cells of a CSV table; reading continues on the line after one with wrong quotes."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    spaced = ", " in text.partition("\n")[0]  # as typed by hand; otherwise a space may be part of a name
    lines, end = [line + "\n" for line in text.split("\n")], 0
    while end < len(lines):
        start = end
        table = csv.reader((lines[i] for i in range(start, len(lines))), strict=True, skipinitialspace=spaced)
        try:
            for cells in table:
                end = start + table.line_num
                yield end, cells
        except csv.Error as error:
            end += 1
            yield end, BadLine(f"not a row of a CSV table ({error}): a quote inside quotes is written twice")


def _value(cell: str, numeric: bool, may_be_empty: bool) -> Any:
    if not numeric:
        return cell if cell or may_be_empty else None
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell or None


def parse(row: Mapping[str, Any], listing: Listing, folder: str, give: Collection[str], classes: Mapping[str, int]) -> Annotation:
    """Parse a line of a file in `folder`, which is relative to the listing's.

    Raises:
        BadLine: says what was expected.
    """
    caption = next((key for key in CAPTION if row.get(key) is not None), CAPTION[0])
    for key in ("file_name", *give):
        if row.get(caption if key == "caption" else key) is None:
            other = f" and no {CAPTION[1]!r}" if key == "caption" else ""
            raise BadLine(f"has no {key!r}{other} (it has {printable(', '.join(map(str, row)))[:200] or 'nothing'})")
    name = _path(row, "file_name", listing, folder)
    boxes, box_labels = parse_boxes(row["boxes"], classes.get("boxes")) if "boxes" in give else (NO_BOXES, NO_LABELS)
    return Annotation(
        name=name,
        path=listing.root / name,
        label=_class(row["label"], "label", classes.get("label")) if "label" in give else None,
        captions=captions(row[caption], caption) if "caption" in give else (),
        boxes=boxes,
        box_labels=box_labels,
        segmentation=listing.root / _path(row, "segmentation", listing, folder) if "segmentation" in give else None,
        mask=listing.root / _path(row, "mask", listing, folder) if "mask" in give else None,
        more={key: _column(row, key, listing, folder) for key in give if key not in get_args(Give)},
    )


def _column(row: Mapping[str, Any], key: str, listing: Listing, folder: str) -> Any:
    """Any other column: a number, a text, a list of numbers, or the path of a .npy file."""
    value = row[key]
    if isinstance(value, str):
        return listing.root / _path(row, key, listing, folder) if value.endswith(".npy") else value
    if _number(value) or (isinstance(value, list) and value and all(map(_number, value))):
        return value
    raise BadLine(f"{key}: expected a number, a text, a list of numbers or a .npy file, got {value!r}")


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
            raise BadLine(f"boxes[{i}]: {box} leaves the image: expected fractions of width and height, 0 to 1")
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


def _path(row: Mapping[str, Any], key: str, listing: Listing, folder: str) -> str:
    """Path of a file named in a line, relative to the listing's folder."""
    if not isinstance(row[key], str) or not row[key]:
        raise BadLine(f"{key}: expected a string, got {row[key]!r}")
    try:
        return listing.find(row[key], folder)
    except NoSuchName as error:
        raise BadLine(f"{key}: {error}") from error
