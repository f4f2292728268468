"""What `scripts/inspect_data.py` does: read part of the data, count what is in it, and draw some samples."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ldm.cli.data import open_data
from ldm.config import AllowedTargets
from ldm.data import Mixed
from ldm.data.batch import check_sample
from ldm.data.facts import Facts, sources
from ldm.data.order import kinds, spread
from ldm.data.reading import Reading
from ldm.data.sources.tasks import WithTask
from ldm.errors import UserError
from ldm.evaluation.draw import ClassNames, sheet
from ldm.evaluation.inventory import Inventory
from ldm.system.files import save_png, write_text
from ldm.system.terminal import printable

SHOWN = 10  # broken files that are printed; broken.txt has all
COUNTED = {"label": "images", "boxes": "boxes", "segmentation": "pixels"}
LISTED = 20  # classes of a key that are printed; train-classes.txt and validation-classes.txt have all


def inspect_all(flags: argparse.Namespace) -> int:
    """Inspect both splits of a config; returns the exit code."""
    data, _ = open_data(flags.base, flags.overrides, AllowedTargets(tuple(flags.trust)))
    outdir, broken = Path(flags.outdir), []
    for name, dataset in (("train", data.train), ("validation", data.validation)):
        if dataset is not None:
            broken += inspect(name, dataset, flags.n, flags.limit, outdir)
    write_text(outdir / "broken.txt", "".join(line + "\n" for line in broken))
    sys.stdout.write(f"pictures and broken.txt ({len(broken)} lines) are in {outdir}\n")
    return 0


def inspect(name: str, dataset: Any, n: int, limit: int, outdir: Path) -> list[str]:
    """Print the content of a data set and draw some of it; returns what is broken."""
    files = sources(dataset)
    names: ClassNames = Facts(dataset).class_names
    left_out = [line for one in files for line in getattr(one, "broken", ())]
    found, shown = Inventory(), []
    chosen = spread(len(dataset), max(limit or len(dataset), n), kinds(dataset))
    wanted = set(chosen[:n])
    for i in tqdm(sorted(chosen), desc=name, unit="sample", disable=None, leave=False):
        sample = read(dataset, i)
        found.add(sample, None if "skipped" in sample else stored_size(dataset, i))
        shown += [sample] if i in wanted and "skipped" not in sample else []
    broken = left_out + found.broken
    title = f"{name}: {' and '.join(type(one).__name__ for one in files)}, {len(dataset)} samples, {len(left_out)} entries left out"
    text = [title, f"  read          {len(chosen)}, of which {len(found.broken)} cannot be read", *found.lines(names)]
    tables = {key: rows for key, rows in found.classes(names).items() if rows}
    text += [line for key, rows in tables.items() for line in class_table(key, rows, f"{name}-classes.txt")]
    text += [f"  broken        {line}" for line in broken[:SHOWN]]
    text += [f"  broken        and {len(broken) - SHOWN} more, in broken.txt"] if len(broken) > SHOWN else []
    sys.stdout.write("\n".join(map(printable, text)) + "\n")
    if tables:
        lines = [
            f"{'' if key == 'label' else f'of {key}: '}{index}\t{printable(one)}\t{often}"
            for key, rows in tables.items()
            for index, one, often in rows
        ]
        write_text(outdir / f"{name}-classes.txt", "\n".join(lines) + "\n")
    picture = sheet(shown, names) if shown else None
    if picture is not None:
        save_png(outdir / f"{name}.png", picture)
    return [printable(f"{name}: {line}") for line in broken]


def class_table(key: str, rows: Sequence[tuple[int, str, int]], file: str) -> Iterator[str]:
    """Lines with index, name and count of the classes of a key."""
    shown = [(index, printable(name), often) for index, name, often in rows[:LISTED]]
    width = max(len(name) for _, name, _ in shown)
    yield f"  classes       {'' if key == 'label' else f'of {key}: '}index, name and number of {COUNTED[key]} in the samples read"
    for index, name, often in shown:
        yield f"  {'':<14}{index:>5}  {name:<{width}}  {often:>8}"
    if len(rows) > LISTED:
        yield f"  {'':<14}and {len(rows) - LISTED} more, in {file}"


def read(dataset: Any, index: int) -> dict[str, Any]:
    """A sample that meets the batch schema.

    Raises:
        UserError: it does not; names the key and the expectation.
    """
    try:
        sample: dict[str, Any] = dataset[index]
        check_sample({key: value for key, value in sample.items() if key != "skipped"}, type(dataset).__name__)
    except ValueError as error:
        raise UserError(f"sample {index}: {error}") from error
    return sample


def stored_size(dataset: Any, index: int) -> tuple[int, int] | None:
    """Width and height of a sample's stored picture, if known."""
    if isinstance(dataset, WithTask):
        return stored_size(dataset.images, index)
    if isinstance(dataset, Mixed):
        return stored_size(*dataset.find(index))
    return dataset.original_size(index) if isinstance(dataset, Reading) else None
