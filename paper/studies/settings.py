"""Settings of the compression study, and estimates of its time."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ldm.errors import UserError

FACTORS = (1, 2, 4, 8)
CHECKPOINTS = 6  # of each second stage, at equal intervals of time
STEPS = 20  # of DDIM in figure 6
SPEEDS = (5, 10, 20, 50)  # of DDIM in figure 7
REFERENCE = 4000  # held-out scenes that samples are compared with
CODED, CODE_STEPS = 48, 200  # scenes and steps of figure 2

# For plans only: seconds on two cores of a CPU with native bf16, from timings of single batches.
START_UP = 10.0  # of a training command
FIRST_STEP = 0.15  # of a first stage
IMAGE_STEP = {1: 1 / 380, 2: 1 / 690, 4: 1 / 750, 8: 1 / 1900}  # of an image and sampling step, by factor
PER_IMAGE = 0.004  # decoding, features and the pixel checker
FIXED = 40.0  # extractor, reference, floor, pictures


@dataclass(frozen=True)
class Study:
    """One run of the study.

    Attributes:
        seconds: of training of every second stage.
        first_steps: of training of every first stage.
        samples: of every measurement, all classes equally often.
        factors: f of the models.
        overrides: further changes to every training, `key.sub=value`.
    """

    seconds: float = 255.0
    first_steps: int = 900
    samples: int = 768
    factors: Sequence[int] = FACTORS
    overrides: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.first_steps < 1:
            raise UserError(f"--seconds {self.seconds:g} --first-steps {self.first_steps}: expected more than 0")
        if self.samples < 2:
            raise UserError(f"--samples {self.samples}: expected at least 2 (a good number is a multiple of the 96 classes)")
        if unknown := [f for f in self.factors if f not in FACTORS]:
            raise UserError(f"--factors {unknown[0]}: there are configs for {', '.join(map(str, FACTORS))}")

    def record(self) -> dict[str, Any]:
        """Settings as stored in settings.json."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]


def claim(outdir: Path, study: Study) -> None:
    """Write a study's settings into its folder, or compare them with those that are there.

    Raises:
        UserError: the folder has a study with other settings.
    """
    from ldm.system.files import write_text  # imports torch, which --help does not need

    file = outdir / "settings.json"
    if not file.is_file():
        write_text(file, json.dumps(study.record(), indent=2) + "\n")
        return
    before, now = json.loads(file.read_text(encoding="utf-8")), study.record()
    for key, value in now.items():
        if before.get(key) != value:
            raise UserError(f"{file}: the study in this folder has {key} {before.get(key)}, not {value}; name another --outdir")


def estimates(study: Study) -> list[tuple[str, float]]:
    """Every stage and its estimated seconds on two CPU cores."""
    parts = [
        (f"train first stage, f={f}, {study.first_steps} steps", START_UP + study.first_steps * FIRST_STEP) for f in study.factors if f > 1
    ]
    parts += [(f"train LDM-{f}, time limit {study.seconds:g} s", START_UP + study.seconds) for f in study.factors]
    parts.append(("extractor, reference, reconstructions, pictures", FIXED))
    for f in study.factors:
        one = study.samples * (CHECKPOINTS * STEPS * IMAGE_STEP[f] + CHECKPOINTS * PER_IMAGE)
        more = sum(n for n in SPEEDS if n != STEPS) * study.samples * IMAGE_STEP[f] + (len(SPEEDS) - 1) * study.samples * PER_IMAGE
        parts.append((f"sample and measure LDM-{f}: {CHECKPOINTS} checkpoints x {STEPS} steps, the last at {SPEEDS}", one + more))
    if 1 in study.factors:
        parts.append((f"rate and distortion of LDM-1 ({CODED} scenes, {CODE_STEPS} steps)", CODED * CODE_STEPS * IMAGE_STEP[1]))
    return parts
