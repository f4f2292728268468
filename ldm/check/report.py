"""The report of a check."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from ldm.checkpoint.start import StartingWeights
from ldm.errors import MissingFile, UserError
from ldm.system.files import write_text
from ldm.system.terminal import each_line


def first_line(error: Exception) -> str:
    """The first line of an error message."""
    return (str(error).strip().splitlines() or ["no reason is given"])[0]


@dataclass
class Report:
    """The report of a check; `exit_code` is 0, 2 or 3 as documented in docs/architecture.md.

    Attributes:
        problems, missing: problems to fix and missing files to provide before training.
        downloads: other missing files, which training downloads itself if there is a network.
        warnings: what may be intended.
        start: the starting weights.
        built: objects built for the check, by their key in the config.
        state: the state of a full checkpoint of the model, on the meta device.
    """

    problems: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    downloads: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    parameters: dict[str, int] = field(default_factory=dict)
    learning_rate: dict[str, Any] = field(default_factory=dict)
    batch: dict[str, str] = field(default_factory=dict)
    step: dict[str, float] = field(default_factory=dict)
    start: StartingWeights | None = None
    built: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Tensor] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        return 2 if self.problems else 3 if self.missing or self.downloads else 0

    @contextmanager
    def recording(self, path: str) -> Iterator[None]:
        """Context in which an error becomes an entry of the report: no value of a config leads to a stack trace."""
        try:
            yield
        except MissingFile as error:
            self.missing.append(f"{path}: {error}")
        except (UserError, ValueError) as error:
            self.problems.append(f"{path}: {error}")
        except Exception as error:  # what a constructor does not check
            self.problems.append(f"{path}: {type(error).__name__}: {first_line(error)}")

    def write(self, path: Path) -> None:
        findings = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("start", "built", "state", "downloads")}
        findings["missing"] = self.missing + self.downloads
        write_text(path, json.dumps({"exit_code": self.exit_code, **findings}, indent=2) + "\n")

    def text(self) -> str:
        """The report as text."""
        lines = []
        if self.parameters:
            lines.append("parameters")
            lines += [f"  {name:<14}{count / 1e6:>10.2f} M" for name, count in self.parameters.items()]
        if self.learning_rate:
            lines += ["learning rate", f"  {self.learning_rate['formula']}"]
        if self.batch:
            lines.append("one batch")
            lines += [f"  {key:<14}{text}" for key, text in self.batch.items()]
        if self.step:
            lines.append("one step at shrunken width: " + ", ".join(f"{key} {value:.4g}" for key, value in self.step.items()))
        for title, entries in (("warnings:", self.warnings), ("wrong:", self.problems), ("missing:", self.missing + self.downloads)):
            if entries:
                lines += [title, *(f"  {entry}" for entry in entries)]
        verdict = {0: "ready", 2: "not ready: the config is wrong", 3: "the config is right, but files are missing"}
        return each_line("\n".join([*lines, verdict[self.exit_code]]))
