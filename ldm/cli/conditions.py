"""Conditions of many images from one file: a line per image."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ldm.cli.job import Job
from ldm.cli.labelmaps import asked_map
from ldm.cli.layouts import asked_layout, checked_boxes, read_json
from ldm.cli.requests import Request, check_captions, part_reading, reads, refuse_others
from ldm.cli.typed import noted, row_entries, typed_keys
from ldm.data.captions import CAPTION, BadLine, captions, draw_caption
from ldm.data.files import decoded
from ldm.data.listing import METADATA, inside
from ldm.data.metadata import read_rows as rows_of_table
from ldm.errors import MissingFile, UserError

KNOWN = ("label", "caption", "boxes", "box_labels", "segmentation")
Row = str | dict[str, Any]


def read_lines(path: str) -> list[str]:
    """Lines of a text file that are not empty.

    Raises:
        MissingFile: nothing there.
        UserError: no text.
    """
    return [line for _, line in numbered_lines(path)]


def numbered_lines(path: str) -> list[tuple[int, str]]:
    """Lines that are not empty, with their numbers in the file, as editors count them.

    Only the ends of lines end one: captions and JSON strings may hold U+2028 and the like, at which `str.splitlines` cuts as well.
    """
    if not Path(path).is_file():
        raise MissingFile(f"--from-file {path}: no such file")
    try:
        lines = decoded(Path(path).read_bytes()).split("\n")
    except ValueError as error:
        raise UserError(f"--from-file {path}: {error}") from error
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


def read_rows(path: str) -> list[Row]:
    """What a file says of each image: objects of a `.jsonl` or of a `.json` list, rows of a `.csv`, else lines of text.

    Raises:
        MissingFile: nothing there.
        UserError: another kind of content, or none.
    """
    rows: list[Any]
    if path.endswith(".json"):
        content = read_json(path)
        rows = content if isinstance(content, list) else [content]
    elif path.endswith(".jsonl"):
        rows = [_object(line, f"--from-file {path}, line {i}") for i, line in numbered_lines(path)]
    elif path.lower().endswith(".csv") and Path(path).is_file():
        rows = [_usable(row, f"--from-file {path}, line {i}") for i, row in rows_of_table(Path(path), images=False)]
    else:
        rows = list(read_lines(path))
    if not rows:
        raise UserError(f"--from-file {path}: there is nothing in it")
    return rows


def _usable(row: dict[str, Any] | BadLine, where: str) -> dict[str, Any]:
    if isinstance(row, BadLine):
        raise UserError(f"{where}: {row}") from row
    return row


def _object(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({error})") from error


def conditions(rows: Sequence[Row], path: str, job: Job, size: tuple[int, int], names: dict[str, int], classes: int = 0) -> list[Request]:
    """The condition of each image.

    Args:
        rows: as `read_rows` gives them; a line of text is a caption, or a class index for a model that reads no captions.
        path: of the file; label maps lie relative to it.
        job: with the model.
        size: height and width of the images.
        names: of the classes of boxes -> their indices.
        classes: of a classifier that guides.

    Raises:
        MissingFile, UserError: names the line and what is wrong with it.
    """
    typed = typed_keys(job.model)
    refuse_others(job.model, (*KNOWN, *typed))
    keys = [key for key in ("boxes", "segmentation", "caption", "label") if part_reading(job.model, key) is not None]
    if classes and "label" not in keys:
        keys.append("label")
    if not keys and not typed:
        raise UserError(f"--from-file {path}: this model reads {reads(job.model)}")
    text = "caption" if "caption" in keys else "label"
    asked = []
    for i, row in enumerate(rows, 1):
        where = f"--from-file {path}, image {i}"
        if isinstance(row, str):
            row = {text: int(row) if text == "label" and row.isdecimal() else row}
        if isinstance(row, dict) and "caption" in keys and (given := [row[key] for key in CAPTION if row.get(key) is not None]):
            row = {**row, "caption": _caption(given[0], where, job.flags.seed, i)}
        if not isinstance(row, dict) or (missing := [key for key in keys if row.get(key) is None]):
            wanted = ", ".join(missing) if isinstance(row, dict) else f"an object with {', '.join(keys)}"
            raise UserError(
                f"{where}: {wanted} {'is missing' if isinstance(row, dict) else 'expected'}; this model reads {', '.join(keys)}"
            )
        more = row_entries(row, job.model, where, Path(path).parent) if typed else {}
        parts = [Request(more, noted(more))] if more else []
        parts += [_one(key, row[key], row, where, Path(path), job, size, names, classes) for key in keys]
        first = parts[0]
        for other in parts[1:]:
            first = first.along_with(other)
        asked.append(first)
    check_captions(job.model, [one.entries["caption"] for one in asked if "caption" in one.entries], f"--from-file {path}")
    return asked


def _caption(value: Any, where: str, seed: int, number: int) -> str:
    """A caption, or one of a list, by the seed and the image's number."""
    try:
        return draw_caption(captions(value, "caption"), "", seed, number)
    except BadLine as error:
        raise UserError(f"{where}: {error}") from error


def _one(
    key: str,
    value: Any,
    row: dict[str, Any],
    where: str,
    file: Path,
    job: Job,
    size: tuple[int, int],
    names: dict[str, int],
    classes: int,
) -> Request:
    """One entry of a row as a condition."""
    part = part_reading(job.model, key)
    if key == "boxes":
        return asked_layout(checked_boxes(row, where, names, part.boxes.classes, part.boxes.max_objects), *size)
    if key == "segmentation":
        if file.name in METADATA and inside(file.parent, str(value)) is None:
            raise UserError(f"{where}: segmentation {value!r} is outside of {file.parent}")
        return asked_map(str(file.parent / str(value)), part.num_classes, *size)
    if key == "caption":
        return Request({"caption": value}, {"caption": value})
    most = min(count for count in (part.num_classes if part else 0, classes) if count)
    if type(value) is not int or not 0 <= value < most:
        raise UserError(f"{where}: label {value!r}: there are classes 0 to {most - 1}")
    return Request({"label": value}, {"label": value})
