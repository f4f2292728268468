"""A measured value with everything that it depends on, and two of them side by side.

Another resize, reference, sampler or number of samples changes an FID by more than most improvements do. So a record holds the
protocol, and a comparison refuses records whose protocols differ.
"""

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ldm.errors import MissingFile, UserError

# What may differ between two compared records: the numbers, the model, and the draw of its samples.
FREE = ("value", "spread", "seed", "checkpoint", "training_step", "samples_sha256", "reference", "notes")


@dataclass(frozen=True)
class Record:
    """One measured value. None stands for unknown, "" and "none" for not applicable.

    Attributes:
        metric: its name; "FID" only for torch-fidelity's Inception with its published weights.
        value: the number.
        spread, spread_is: its spread, and which kind of spread it is.
        samples, samples_sha256: number of measured images, and their fingerprint.
        seed: of the set of samples.
        checkpoint, training_step: SHA-256 of the weights that were sampled from, and their training step.
        sampler, steps, eta, scale: of sampling; scale 1 is no guidance.
        sampling: other settings stored in the samples.
        class_balance: how often each class was requested.
        image_format, image_size: of the samples.
        resize, crop: of the images of the reference; samples are never resized.
        extractor, extractor_resize, extractor_sha256: the network, the resize of its input, and its weights.
        reference, reference_images, reference_sha256: source of the reference, its number of images and its fingerprint.
        parameters: of the measure itself (splits, subsets, neighbours).
        software: versions of the libraries that computed it.
        notes: for the reader.
    """

    metric: str
    value: float
    samples: int
    spread: float | None = None
    spread_is: str = ""
    samples_sha256: str | None = None
    seed: int | None = None
    checkpoint: str | None = None
    training_step: int | None = None
    sampler: str | None = None
    steps: int | None = None
    eta: float | None = None
    scale: float | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    class_balance: str | None = None
    image_format: str = ""
    image_size: str = ""
    resize: str = "none"
    crop: str = "none"
    extractor: str = ""
    extractor_resize: str = ""
    extractor_sha256: str = ""
    reference: str = ""
    reference_images: int | None = None
    reference_sha256: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    software: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def number(self) -> str:
        """The value with its number of samples: a Frechet distance of few samples is mostly bias."""
        return f"{self.value:.6g} ({self.samples} samples)"

    def __str__(self) -> str:
        spread = "" if self.spread is None else f" +- {self.spread:.3g}"
        return f"{self.metric} {self.value:.6g}{spread} ({self.samples} samples)"


NAMES = tuple(one.name for one in fields(Record))
PROTOCOL = tuple(name for name in NAMES if name not in FREE)


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write as JSON, atomically."""
    from ldm.system.files import write_text  # imports torch, which reading and comparing do not need

    write_text(path, json.dumps({"records": [asdict(record) for record in records]}, indent=2, allow_nan=False) + "\n")


def read_records(path: Path) -> list[Record]:
    """Records of a file.

    Raises:
        MissingFile: no such file.
        UserError: not a file of records; names the record and the field.
    """
    if not path.is_file():
        raise MissingFile(f"{path}: no such file of records; scripts/evaluate.py --out writes one")
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        rows = tree["records"]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: not a file of records ({type(error).__name__}: {error})") from error
    if not isinstance(rows, list):
        raise UserError(f"{path}: records: expected a list, got {type(rows).__name__}")
    return [checked(row, f"{path}: record {i}") for i, row in enumerate(rows)]


def checked(row: Any, where: str) -> Record:
    """A record from JSON.

    Raises:
        UserError: an unknown or missing field, or a value of the wrong type.
    """
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected an object, got {type(row).__name__}")
    if unknown := [name for name in row if name not in NAMES]:
        raise UserError(f"{where}: unknown field {unknown[0]!r}")
    if missing := [name for name in ("metric", "value", "samples") if name not in row]:
        raise UserError(f"{where}: {missing[0]!r} is missing")
    if isinstance(row["value"], bool) or not isinstance(row["value"], (int, float)) or not math.isfinite(row["value"]):
        raise UserError(f"{where}: value: expected a number, got {row['value']!r}")
    blank = Record("", 0.0, 0)
    for name, value in row.items():
        kind: Any = next((kind for kind in (Mapping, str) if isinstance(getattr(blank, name), kind)), None)
        kind = Sequence if name == "notes" else int if name == "samples" else kind
        if kind is not None and (not isinstance(value, kind) or (name == "notes" and isinstance(value, str))):
            raise UserError(f"{where}: {name}: expected {'text' if kind is str else kind.__name__.lower()}, got {value!r}")
    return Record(**{**row, "notes": tuple(row.get("notes", ()))})


@dataclass(frozen=True)
class Comparison:
    """Two records of one metric.

    Attributes:
        a, b: the records.
        ignored: fields that differ and may.
        unknown: fields that are unknown in both.
    """

    a: Record
    b: Record
    ignored: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def gap(self) -> float:
        return self.b.value - self.a.value

    def lines(self, names: tuple[str, str] = ("A", "B")) -> list[str]:
        """The two side by side: values, then what differs, then what is the same."""
        rows = [("", *names), (self.a.metric, self.a.number, self.b.number)]
        rows += [("spread", shown(self.a.spread), shown(self.b.spread))] if self.a.spread_is or self.b.spread_is else []
        differing = [name for name in NAMES if name not in ("metric", "value", "spread") and getattr(self.a, name) != getattr(self.b, name)]
        for name in differing:
            title = name + (" (ignored)" if name in self.ignored else "")
            rows.append((title, shown(getattr(self.a, name)), shown(getattr(self.b, name))))
        width = [max(len(row[i]) for row in rows) for i in range(2)]
        text = [f"{row[0]:<{width[0]}}  {row[1]:<{width[1]}}  {row[2]}" for row in rows]
        text.append(f"{names[1]} - {names[0]} = {self.gap:+.6g}" + (f"  ({self.a.spread_is})" if self.a.spread_is else ""))
        same = [name for name in PROTOCOL if name not in differing and name not in self.unknown and name not in ("metric", "spread_is")]
        text.append("the same in both: " + "; ".join(f"{name} {shown(getattr(self.a, name))}" for name in same if given(self.a, name)))
        if self.unknown:
            text.append("unknown in both: " + ", ".join(self.unknown))
        return text


def given(record: Record, name: str) -> bool:
    """Whether a field has a value."""
    return getattr(record, name) not in (None, "", {}, ())


def shown(value: Any) -> str:
    """A field as text; hashes are shortened, unknown is a question mark."""
    if value is None:
        return "?"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={shown(item)}" for key, item in value.items()) or "none"
    if isinstance(value, (tuple, list)):
        return "; ".join(map(str, value)) or "none"
    text = str(value)
    return text[:12] + "..." if len(text) == 64 and set(text) <= set("0123456789abcdef") else text or "none"


def compare(a: Record, b: Record, ignore: Sequence[str] = ()) -> Comparison:
    """Two records side by side.

    Args:
        a, b: of one metric.
        ignore: fields in which the protocols may differ.

    Raises:
        UserError: an unknown field to ignore; protocols that differ in other fields, with both values of each.
    """
    for name in ignore:
        if name not in PROTOCOL:
            near = difflib.get_close_matches(name, PROTOCOL, 1)
            known = "is never compared" if name in FREE else "is not a field of a record"
            raise UserError(f"--ignore {name}: {known}" + (f"; did you mean {near[0]}?" if near else f"; there are {', '.join(PROTOCOL)}"))
    unlike = [name for name in PROTOCOL if getattr(a, name) != getattr(b, name)]
    if refused := [name for name in unlike if name not in ignore]:
        text = "; ".join(f"{name}: {shown(getattr(a, name))} and {shown(getattr(b, name))}" for name in refused)
        raise UserError(f"{a.metric} and {b.metric} were measured differently: {text} (allow it with --ignore {' '.join(refused)})")
    unknown = tuple(name for name in PROTOCOL if getattr(a, name) is None and getattr(b, name) is None)
    return Comparison(a, b, tuple(name for name in unlike if name in ignore), unknown)
