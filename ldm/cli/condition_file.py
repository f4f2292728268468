"""Conditions of many images from a file (`--from-file`), one per image."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ldm.cli.condition_flags import Condition, check_captions, conditioner_for, labelled, reads, refuse_others
from ldm.cli.job import Job
from ldm.cli.label_maps import label_map
from ldm.cli.layouts import checked_boxes, layout, read_given
from ldm.cli.other_conditions import entries_from_row, noted, other_keys
from ldm.data.captions import CAPTION, BadLine, captions, draw_caption
from ldm.data.classes import Classes
from ldm.data.files import decoded
from ldm.data.listing import METADATA, inside
from ldm.data.metadata import read_rows as rows_of_table
from ldm.errors import MissingFile, UserError

KEYS = ("boxes", "segmentation", "caption", "label")
Row = str | dict[str, Any]
ClassNames = Sequence[str] | Mapping[str, int]


def read_lines(path: str) -> list[str]:
    """Lines of a text file that are not empty.

    Raises:
        MissingFile: no such file.
        UserError: not text.
    """
    return [line for _, line in numbered_lines(path)]


def numbered_lines(path: str) -> list[tuple[int, str]]:
    """Lines that are not empty, with their numbers.

    Only line breaks end them: captions and JSON strings may contain U+2028 and the like, at which `str.splitlines` splits as well.
    """
    if not Path(path).is_file():
        raise MissingFile(f"--from-file {path}: no such file")
    try:
        lines = decoded(Path(path).read_bytes()).split("\n")
    except ValueError as error:
        raise UserError(f"--from-file {path}: {error}") from error
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


def read_rows(path: str) -> list[Row]:
    """Objects of a `.jsonl` file or of a `.json` list, rows of a `.csv` file, else lines of text; one per image.

    Raises:
        MissingFile: no such file.
        UserError: other content, or none.
    """
    rows: list[Any]
    if path.endswith(".json"):
        content = read_given(path)
        rows = content if isinstance(content, list) else [content]
    elif path.endswith(".jsonl"):
        rows = [_object(line, f"--from-file {path}, line {i}") for i, line in numbered_lines(path)]
    elif path.lower().endswith(".csv") and Path(path).is_file():
        rows = []
        for i, row in rows_of_table(Path(path), ("boxes", "box_labels"), images=False):
            if isinstance(row, BadLine):
                raise UserError(f"--from-file {path}, line {i}: {row}") from row
            rows.append(row)
    else:
        rows = list(read_lines(path))
    if not rows:
        raise UserError(f"--from-file {path}: there is nothing in it")
    return rows


def _object(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({error})") from error


def conditions_from_rows(rows: Sequence[Row], path: str, job: Job, size: tuple[int, int], names: ClassNames) -> list[Condition]:
    """The condition of each image.

    Args:
        rows: as from `read_rows`; a line of text is a caption, or a class for a model that reads no captions.
        path: of the file; label maps are relative to it.
        job: with the model.
        size: height and width of the images.
        names: of the boxes' classes.

    Raises:
        MissingFile, UserError: names the line and what is wrong with it.
    """
    model, others = job.model, other_keys(job.model)
    refuse_others(model, (*KEYS, "box_labels", *others))
    keys = [key for key in KEYS if conditioner_for(model, key) is not None]
    if job.classifier is not None and "label" not in keys:
        keys.append("label")
    if not keys and not others:
        raise UserError(f"--from-file {path}: this model reads {reads(model)}")
    found = []
    for i, row in enumerate(rows, 1):
        where = f"--from-file {path}, image {i}"
        given = _entries(row, keys, where, job.flags.seed, i)
        more = entries_from_row(given, model, where, Path(path).parent) if others else {}
        condition = Condition(more, noted(more))
        for key in keys:
            condition |= _condition(key, given, where, Path(path), job, size, names)
        found.append(condition)
    check_captions(model, [one.entries["caption"] for one in found if "caption" in one.entries], f"--from-file {path}")
    return found


def _entries(row: Any, keys: Sequence[str], where: str, seed: int, number: int) -> dict[str, Any]:
    """A row by batch keys; of several captions, one is drawn by the seed and the image's number."""
    text = "caption" if "caption" in keys else "label"
    if isinstance(row, str):
        row = {text: row}
    if not isinstance(row, dict):
        raise UserError(f"{where}: an object with {', '.join(keys)} expected; this model reads {', '.join(keys)}")
    if "caption" in keys and (given := [row[key] for key in CAPTION if row.get(key) is not None]):
        try:
            row = {**row, "caption": draw_caption(captions(given[0], "caption"), "", seed, number)}
        except BadLine as error:
            raise UserError(f"{where}: {error}") from error
    if missing := [key for key in keys if row.get(key) is None]:
        raise UserError(f"{where}: {', '.join(missing)} is missing; this model reads {', '.join(keys)}")
    return row


def _condition(key: str, row: dict[str, Any], where: str, file: Path, job: Job, size: tuple[int, int], names: ClassNames) -> Condition:
    """One entry of a row as a condition."""
    part, value = conditioner_for(job.model, key), row[key]
    if key == "boxes":
        classes = Classes(part.boxes.classes, names)
        return layout(checked_boxes(row, where, classes, part.boxes.max_objects), *size, classes)
    if key == "segmentation":
        if file.name in METADATA and inside(file.parent, str(value)) is None:
            raise UserError(f"{where}: segmentation {value!r} is outside of {file.parent}")
        return label_map(str(file.parent / str(value)), part.num_classes, *size)
    if key == "label":
        classes = job.classes()
        try:
            return labelled(classes.index(value, text=file.suffix not in (".json", ".jsonl")), classes)
        except ValueError as error:
            raise UserError(f"{where}: label {value!r}: {error}") from error
    return Condition({key: value}, {key: value})
