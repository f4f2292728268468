"""Tables and figures of the paper from the YAML files in this folder."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ldm.config.targets import did_you_mean
from ldm.errors import UserError

HERE = Path(__file__).resolve().parent
ELSEWHERE = {
    "table 4": "a user study, for scripts/user_study.py",
    "table 16": "the layers of a block, without numbers: ldm/nn/attention.py",
    "table 17": "settings of the text encoders, which configs/ldm/text-ldm8-kl.yaml and configs/ldm/layout-*.yaml have",
}


@dataclass(frozen=True)
class Row:
    """One experiment in one table; the head of `tables.yaml` documents its fields."""

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
    """How the values of a table were measured; the head of `protocols.yaml` documents its fields."""

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
        rows: the paper's own models.
        others: other methods, as printed.
        speed: `columns` (printed name: what is timed) and the row `baseline`, the denominator of ratios; empty without such columns.
        claim: the claim of the text about the speed.
        axis, points: axis of a figure, and the settings at which it has points.
        text_value: the only value of a figure that the text states.
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
        """How a row was measured: first stages of any table as in table 8."""
        first_stage = row.config.startswith("first_stage/") and self.protocol.samples
        return _protocol("autoencoders") if first_stage else self.protocol

    def find(self, name: str) -> Row:
        """A row by name; the UserError of an unknown one lists the names."""
        for row in self.rows:
            if row.row == name:
                return row
        names = [row.row for row in self.rows]
        raise UserError(f"--row {name}: not in {self.number}{did_you_mean(name, names)} (rows: {', '.join(names)})")


@cache
def _read(name: str) -> dict[str, Any]:
    return yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def disagreements() -> dict[str, str]:
    """Contradictions of the paper by name, and what this project uses."""
    return _read("disagreements")


def sources() -> dict[str, dict[str, Any]]:
    """What rows need that has to be downloaded or made: data, conditions, weights, released models."""
    return _read("sources")


def table(number: str) -> Table:
    """A table by its number; the UserError of an unknown one lists the numbers."""
    return _table("table", number, _read("tables"))


def figure(number: str) -> Table:
    """A figure by its number; the UserError of an unknown one lists the numbers."""
    return _table("figure", number, _read("figures"))


def _table(kind: str, number: str, known: dict[str, Any]) -> Table:
    number = number.strip()
    if number not in known:
        why = ELSEWHERE.get(f"{kind} {number}")
        there = f"(there are {', '.join(known)})"
        raise UserError(f"--{kind} {number}: {why} {there}" if why else f"--{kind} {number}: not reproduced by this project {there}")
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
