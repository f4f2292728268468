"""Tables and figures of the paper out of the YAML files beside this module; `tables.yaml` says how a row reads."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ldm.config.targets import did_you_mean
from ldm.errors import UserError

HERE = Path(__file__).resolve().parent
ELSEWHERE = {
    "table 4": "a user study: people have to vote, no command can",
    "table 16": "the layers of a block, without numbers: ldm/nn/attention.py",
    "table 17": "settings of the text encoders, which configs/ldm/text-ldm8-kl.yaml and configs/ldm/layout-*.yaml have",
}


@dataclass(frozen=True)
class Row:
    """One experiment in one table.

    Attributes:
        row: its name, the same in every table.
        config: file below configs/, without `.yaml`.
        method: as a reader knows it.
        data: data set, as a reader knows it.
        paper: printed values by name; `_std` behind a name is its spread. Parameters are in millions.
        sampling: settings that belong to the printed values.
        printed: settings that the table prints differently from `sampling` (`disagrees` says why).
        chosen: settings that the paper does not state.
        counts: parts of the model, joined by "+", whose parameters are printed; empty where none are.
        shape: "stated", or "chosen" where the paper prints a size only.
        classifier: config of the classifier that guides.
        train: printed iterations and batch, where the table has them.
        disagrees: names of `disagreements`.
    """

    row: str
    config: str
    method: str
    data: str
    paper: dict[str, float] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)
    printed: dict[str, Any] = field(default_factory=dict)
    chosen: tuple[str, ...] = ()
    counts: str = ""
    shape: str = "stated"
    classifier: str = ""
    train: dict[str, int] = field(default_factory=dict)
    disagrees: tuple[str, ...] = ()


@dataclass(frozen=True)
class Protocol:
    """How the values of a table were measured.

    Attributes:
        name: of it.
        text: in words.
        open: what the paper does not say.
        samples: number of images; 0 where none are made.
        maker: kind of script that makes them.
        given: what the model is given, a name of sources.yaml; empty where nothing is.
        reference: what they are held against, in words.
        measure: `{"against": which reference, "names": {printed name: name of the metric}}`.
    """

    name: str
    text: str
    open: str
    samples: int = 0
    maker: str = ""
    given: str = ""
    reference: str = ""
    measure: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Table:
    """A table or figure.

    Attributes:
        number: "table 1", "figure 7".
        title: in our words.
        protocol: how it was measured.
        rows: the paper's own models.
        others: other methods, as printed.
        speed: `columns` (printed name: what is timed) and the row `against` which ratios are taken; empty without such columns.
        claim: what the text claims about the speed.
        axis: of a figure.
        points: settings that a figure goes through.
        text_value: the one number of a figure that the text tells.
    """

    number: str
    title: str
    protocol: Protocol
    rows: tuple[Row, ...]
    others: tuple[dict[str, Any], ...] = ()
    speed: dict[str, Any] = field(default_factory=dict)
    claim: dict[str, Any] = field(default_factory=dict)
    axis: str = ""
    points: dict[str, Any] = field(default_factory=dict)
    text_value: dict[str, Any] = field(default_factory=dict)

    def protocol_of(self, row: Row) -> Protocol:
        """How a row was measured: first stages, wherever they stand, as in table 8."""
        first_stage = row.config.startswith("first_stage/") and self.protocol.samples
        return _protocol("autoencoders") if first_stage else self.protocol

    def find(self, name: str) -> Row:
        """A row by its name.

        Raises:
            UserError: no such row; the message has the names.
        """
        for row in self.rows:
            if row.row == name:
                return row
        names = [row.row for row in self.rows]
        raise UserError(f"--row {name}: not in {self.number}{did_you_mean(name, names)} (rows: {', '.join(names)})")


@cache
def _read(name: str) -> dict[str, Any]:
    return yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def disagreements() -> dict[str, str]:
    """By name: what is printed differently in different places, and what this project takes."""
    return _read("disagreements")


def sources() -> dict[str, dict[str, Any]]:
    """What has to be fetched or made before rows can run: data, conditions, weights, released models."""
    return _read("sources")


def table(number: str) -> Table:
    """A table by its number.

    Raises:
        UserError: one that is not here; the message has those that are.
    """
    return _table("table", number, _read("tables"))


def figure(number: str) -> Table:
    """A figure by its number.

    Raises:
        UserError: one that is not here; the message has those that are.
    """
    return _table("figure", number, _read("figures"))


def asked(tables: list[str], figures: list[str]) -> list[Table]:
    """Tables, then figures, by their numbers."""
    return [*map(table, tables), *map(figure, figures)]


def _table(kind: str, number: str, known: dict[str, Any]) -> Table:
    number = number.strip()
    if number not in known:
        why = ELSEWHERE.get(f"{kind} {number}")
        there = f"(there are {', '.join(known)})"
        raise UserError(f"--{kind} {number}: {why} {there}" if why else f"--{kind} {number}: not one that this project reproduces {there}")
    found = dict(known[number])
    protocol = _protocol(found.pop("protocol"))
    rows = tuple(_row(entry) for entry in found.pop("rows"))
    others = tuple(found.pop("others", ()))
    return Table(f"{kind} {number}", found.pop("title"), protocol, rows, others, **found)


@cache
def _protocol(name: str) -> Protocol:
    entry = dict(_read("protocols")[name])
    return Protocol(name, maker=entry.pop("with", ""), measure=tuple(entry.pop("measure", ())), **entry)


def _row(entry: dict[str, Any]) -> Row:
    lists: dict[str, Any] = {key: tuple(entry[key]) for key in ("chosen", "disagrees") if key in entry}
    return Row(**(entry | lists))
