"""Tables in `scripts/reproduce.py`: plan their rows, or run what is possible and print the results."""

import argparse
import json
import sys
from pathlib import Path

from tqdm import tqdm

from ldm.errors import UserError
from ldm.precision import for_sampling
from ldm.system.device import pick_device
from ldm.system.files import write_text
from paper import show
from paper.needs import OwnPaths
from paper.results import as_json, execute, values
from paper.speed import Speeds, SpeedSettings, measure, pieces_of
from paper.tables import Row, Table

CPU_SHARE = 0.25  # of every width: a round of table 6 then takes about a minute on two cores


def run_tables(flags: argparse.Namespace, tables: list[Table], words: list[str]) -> int:
    """Plan or run the rows of these tables; returns the exit code."""
    places = places_from_flags(flags, words)
    found = []
    for table in tables:
        rows = [table.find(flags.row)] if flags.row else list(table.rows)
        sys.stdout.write("\n".join(show.heading(table)) + "\n")
        if flags.plan:
            for row in rows:
                sys.stdout.write("\n".join(show.plan(table, row, places)) + "\n")
            sys.stdout.write("\n".join([*show.others(table), "", ""]))
        else:
            found.append(reproduce(table, rows, places, flags))
    if flags.json and found:
        write_text(Path(flags.json), json.dumps(found, indent=2) + "\n")
    return 0


def places_from_flags(flags: argparse.Namespace, words: list[str]) -> OwnPaths:
    """Paths and settings of the command line.

    Raises:
        UserError: flags that cannot be combined.
    """
    if flags.model and not flags.row:
        raise UserError("--model needs --row: it is the model of one row")
    if stray := [word for word in words if not word.startswith("paths.") or "=" not in word]:
        raise UserError(f"{stray[0]!r}: expected paths.NAME=DIR")
    if not (0 < (1 if flags.share is None else flags.share) <= 1 and 0 < flags.pixels <= 1):
        raise UserError("--share and --pixels: expected more than 0 and at most 1")
    if flags.plan and flags.json:
        raise UserError("--json writes numbers, which --plan does not have: use one of them")
    return OwnPaths(Path(flags.models), flags.model, flags.weights, tuple(words), flags.batch, flags.device)


def reproduce(table: Table, rows: list[Row], places: OwnPaths, flags: argparse.Namespace) -> dict[str, object]:
    """Run what is possible and print it; returns it for --json."""
    speeds = None if flags.no_speed or not table.speed else timed(table, rows, flags)
    found = {row.row: values(table, row, places, speeds, execute) for row in rows}
    for row in rows:
        sys.stdout.write("\n".join(show.results(row, found[row.row])) + "\n")
    if speeds is not None and table.claim and len(speeds.parameters) > 1:
        sys.stdout.write("\n".join(show.claim(table, speeds)) + "\n")
    run = sum(value.ours is not None for some in found.values() for value in some)
    total = sum(map(len, found.values()))
    hint = "" if run == total else f"; for what is missing: --{table.number} --plan"
    sys.stdout.write(f"\n{table.number}: {run} of {total} numbers run{hint}\n\n")
    return as_json(table, found, speeds)


def timed(table: Table, rows: list[Row], flags: argparse.Namespace) -> Speeds | None:
    """Speeds of the requested rows and of the reference row; None if no row has a printed speed."""
    with_speed = [row for row in rows if table.speed["columns"].keys() & row.paper.keys()]
    baseline = table.find(table.speed["baseline"])
    if not with_speed:
        return None
    device = pick_device(flags.device)
    on_gpu = device.type != "cpu"
    share = flags.share or (1.0 if on_gpu else CPU_SHARE)
    batch = flags.speed_batch or (8 if on_gpu else 1)
    settings = SpeedSettings(device, share, flags.rounds, batch, for_sampling(flags.precision, device), flags.pixels)
    chosen = with_speed if baseline in with_speed else [baseline, *with_speed]
    with tqdm(total=pieces_of(table, chosen) * (flags.rounds + 1), unit="piece", desc="speed", disable=not sys.stderr.isatty()) as bar:
        return measure(table, chosen, settings, bar.update)
