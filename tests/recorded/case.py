"""A recorded case of the public reference, and the verdict on it.

A case is `<name>.json` (target, params, tolerances) beside `<name>.safetensors` (`sd.*` weights under their names, `in.*`,
`out.*`). A runner computes every recorded output, or names it `Unsupported` with the reason; what it leaves out, and a case that no
runner knows, is a failure.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ldm.errors import UserError


@dataclass(frozen=True)
class Case:
    """One recorded case; tensors by their names without prefix, floating ones as float32 where they were stored shorter."""

    name: str
    target: str
    params: dict[str, Any]
    what: str
    tolerance: dict[str, Any]
    weights: dict[str, Tensor]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


@dataclass(frozen=True)
class Unsupported:
    """An output that this project does not compute, on purpose."""

    reason: str


@dataclass(frozen=True)
class Row:
    """The verdict on one case: worst errors over its outputs, why it failed, and the outputs that are left out, by reason."""

    name: str
    absolute: float
    relative: float
    tolerance: str
    reason: str
    unsupported: dict[str, list[str]] = field(default_factory=dict)
    compared: int = 0

    @property
    def passed(self) -> bool:
        return not self.reason and self.compared > 0

    @property
    def left_out(self) -> bool:
        """Whether nothing of the case is supported."""
        return not self.reason and self.compared == 0

    @property
    def verdict(self) -> str:
        """In words."""
        left = "; ".join(f"{reason} ({_some(names)})" for reason, names in self.unsupported.items())
        if self.left_out:
            return f"unsupported: {'; '.join(self.unsupported)}"
        return (f"FAIL: {self.reason}" if self.reason else "pass") + (f"; unsupported: {left}" if left else "")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


Runner = Callable[[Case], Mapping[str, Tensor | Unsupported]]


def nothing(why: Unsupported) -> Runner:
    """The runner of a kind of which nothing is supported."""
    return lambda case: dict.fromkeys(case.outputs, why)


def read_case(folder: Path, name: str) -> Case:
    """Read a case, with the weights of the case that it borrows from.

    Raises:
        UserError: a missing or damaged file.
    """
    try:
        facts = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / f"{name}.safetensors")
        if facts.get("sd_from"):
            borrowed = load_file(folder / f"{facts['sd_from']}.safetensors")
            tensors = {key: value for key, value in borrowed.items() if key.startswith("sd.")} | tensors
    except Exception as error:  # JSON, safetensors and the file system each raise their own kinds
        raise UserError(f"{folder / name}: not a recorded case ({error})") from error
    parts: dict[str, dict[str, Tensor]] = {"sd": {}, "in": {}, "out": {}}
    for key, value in tensors.items():
        prefix, _, rest = key.partition(".")
        if prefix not in parts:
            raise UserError(f"{folder / name}: tensor {key!r} is neither sd., in. nor out.")
        parts[prefix][rest] = value.float() if value.is_floating_point() and value.itemsize < 4 else value
    if missing := [key for key in ("target", "params", "tolerance") if key not in facts]:
        raise UserError(f"{folder / name}.json: not a recorded case ({', '.join(missing)} missing)")
    if not parts["out"]:
        raise UserError(f"{folder / name}: not a recorded case (no out.* to compare with)")
    return Case(name, facts["target"], facts["params"], facts.get("what", ""), facts["tolerance"], parts["sd"], parts["in"], parts["out"])


def cases_in(folder: Path) -> Iterator[str]:
    """Names of the cases in a folder.

    Raises:
        UserError: a folder without any.
    """
    names = sorted({path.stem for ending in ("json", "safetensors") for path in folder.glob(f"*.{ending}")})
    if not names:
        raise UserError(f"{folder}: no recorded cases (looked for NAME.json beside NAME.safetensors)")
    yield from names


def bounds(case: Case, key: str, expected: Tensor) -> tuple[float, float]:
    """Absolute and relative tolerance of one output: its own, else that of its kind, else the case's."""
    largest = float(expected.double().abs().max()) if expected.numel() else 0.0
    chosen = next((case.tolerance[name] for name in sorted(case.tolerance, key=len, reverse=True) if _matches(name, key, case)), None)
    if chosen is None and "grad" in key:
        return 1e-3 * largest, 1e-3
    chosen = chosen or case.tolerance
    return chosen.get("atol", 0.0) + chosen.get("atol_rel_to_max", 0.0) * max(1.0, largest), chosen.get("rtol", 0.0)


def _matches(name: str, key: str, case: Case) -> bool:
    return isinstance(case.tolerance[name], dict) and name in key


def judge(case: Case, runner: Runner | None) -> Row:
    """Run a case and compare."""
    shown = ", ".join(f"{key} {value:.1e}" for key, value in case.tolerance.items() if isinstance(value, float))
    if runner is None:
        return Row(case.name, float("nan"), float("nan"), shown, f"unknown kind of case: {case.target}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the networks are tiny: more threads would mostly wait for one another
    try:
        got = runner(case)
    except Exception as error:  # a case that cannot be run has failed, whatever the cause
        reason = (str(error).splitlines() or [""])[0]
        return Row(case.name, float("nan"), float("nan"), shown, f"{type(error).__name__}: {reason}")
    finally:
        torch.set_num_threads(threads)
    absolute = relative = 0.0
    wrong: list[str] = []
    left_out: dict[str, list[str]] = {}
    for key, expected in case.outputs.items():
        answer = got.get(key)
        if isinstance(answer, Unsupported):
            left_out.setdefault(answer.reason, []).append(key)
            continue
        if answer is None:
            wrong.append(f"{key} not computed")
            continue
        value, reference = answer.detach().double(), expected.double()
        if value.shape != reference.shape:
            wrong.append(f"{key} is {tuple(value.shape)}, expected {tuple(reference.shape)}")
            continue
        atol, rtol = bounds(case, key, expected)
        gap = (value - reference).abs()
        absolute = max(absolute, float(gap.max()) if gap.numel() else 0.0)
        relative = max(relative, float((gap / reference.abs().clamp(min=1e-6)).max()) if gap.numel() else 0.0)
        if not bool((gap <= atol + rtol * reference.abs()).all()):
            wrong.append(f"{key} off by {float(gap.max()):.2e}")
    compared = len(case.outputs) - sum(map(len, left_out.values()))
    return Row(case.name, absolute, relative, shown, "; ".join(wrong[:3]), left_out, compared)
